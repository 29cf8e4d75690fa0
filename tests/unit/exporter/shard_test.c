#include "exporter/shard.h"
#include "support.h"

static void every_bucket_is_in_one_shard(void **state) {
    (void)state;
    for (unsigned n = 1; n <= TOB_SHARD_MAX_COUNT; n++) {
        uint64_t all = 0;
        unsigned managers = 0;
        for (unsigned i = 0; i < n; i++) {
            uint64_t buckets = tob_shard_buckets((tob_shard){.index = i, .count = n});
            assert_true((all & buckets) == 0);
            all |= buckets;
            managers += tob_shard_has_manager((tob_shard){.index = i, .count = n});
        }
        assert_true(all == UINT64_MAX);
        assert_int_equal(managers, 1);
    }
}

static void a_shard_is_a_number_below_a_count(void **state) {
    (void)state;
    tob_shard shard = {0};
    assert_int_equal(tob_shard_parse("0/1", &shard), TOB_OK);
    assert_int_equal(shard.index, 0);
    assert_int_equal(shard.count, 1);
    assert_int_equal(tob_shard_parse("63/64", &shard), TOB_OK);
    assert_int_equal(shard.index, 63);
    assert_int_equal(shard.count, 64);
    const char *bad[] = {"",     "0",    "/",     "0/",   "/1",  "1/1",     "2/1",  "0/0",
                         "0/65", "-1/2", "0/2/3", "0 /2", "a/b", "00000/2", "0/2 ", "18446744073709551616/2"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(tob_shard_parse(bad[i], &shard), TOB_INVALID);
    }
    assert_int_equal(shard.index, 63); // not touched
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bucket_is_in_one_shard),
        cmocka_unit_test(a_shard_is_a_number_below_a_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
