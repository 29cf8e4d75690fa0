#include "exporter/gaps.h"
#include "support.h"

static tob_place at(uint64_t segment, uint64_t offset) {
    return (tob_place){.segment = segment, .offset = offset};
}

static void places_are_ordered_by_segment_then_offset(void **state) {
    (void)state;
    assert_true(tob_place_before(at(1, 90), at(2, 40)));
    assert_false(tob_place_before(at(2, 40), at(1, 90)));
    assert_true(tob_place_before(at(2, 40), at(2, 41)));
    assert_false(tob_place_before(at(2, 40), at(2, 40)));
    assert_false(tob_place_known(tob_place_of(NULL)));
    assert_true(tob_place_known(at(1, 0)));
}

static void a_place_does_not_move_past_what_is_missing(void **state) {
    (void)state;
    tob_gaps gaps = {0};
    tob_gaps_arrived(&gaps, 3, at(1, 50));
    assert_int_equal(tob_gaps_lose(&gaps, 3, 4), 4);
    tob_gaps_arrived(&gaps, 3, at(1, 90));
    assert_int_equal(tob_gaps_place(&gaps, 8).offset, 50);
    assert_true(tob_gaps_holes(&gaps) == 8);
    tob_gaps_cover(&gaps, 3, 3, at(1, 60)); // not all of it
    assert_true(tob_gaps_holes(&gaps) == 8);
    assert_int_equal(tob_gaps_place(&gaps, 8).offset, 60);
    tob_gaps_cover(&gaps, 3, 4, at(1, 70));
    assert_true(tob_gaps_holes(&gaps) == 0);
    tob_gaps_arrived(&gaps, 3, at(1, 90));
    assert_int_equal(tob_gaps_place(&gaps, 8).offset, 90);
    tob_gaps_arrived(&gaps, 3, at(1, 80)); // late news
    assert_int_equal(tob_gaps_place(&gaps, 8).offset, 90);
}

static void the_place_of_several_buckets_is_the_earliest(void **state) {
    (void)state;
    tob_gaps gaps = {0};
    tob_gaps_arrived(&gaps, 0, at(3, 50));
    tob_gaps_arrived(&gaps, 1, at(2, 90));
    assert_int_equal(tob_gaps_place(&gaps, 3).segment, 2);
    assert_int_equal(tob_gaps_place(&gaps, 1).segment, 3);
    assert_false(tob_place_known(tob_gaps_place(&gaps, 7))); // nothing is known of the third
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_ordered_by_segment_then_offset),
        cmocka_unit_test(a_place_does_not_move_past_what_is_missing),
        cmocka_unit_test(the_place_of_several_buckets_is_the_earliest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
