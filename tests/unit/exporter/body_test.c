#include "exporter/body.h"
#include "support.h"
#include "util/buffer.h"
#include "wire/compress.h"

static void read_all(tob_body *body, tob_buffer *out) {
    const void *bytes = NULL;
    size_t n = 1;
    while (n) {
        assert_int_equal(tob_body_read(body, &bytes, &n), TOB_OK);
        assert_true(n <= TOB_BODY_PIECE_BYTES);
        assert_int_equal(tob_buffer_append(out, bytes, n), TOB_OK);
    }
    assert_int_equal(tob_body_read(body, &bytes, &n), TOB_OK);
    assert_int_equal(n, 0); // the end stays the end
}

static void gzip_carries_the_same_text(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(20000, DAY_MS);
    tob_manager *manager = new_manager();
    uint64_t seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        char id[48];
        seed = seed * 6364136223846793005u + 1442695040888963407u; // so that it does not shrink to nothing
        snprintf(id, sizeof(id), "%016llx%016llx", (unsigned long long)seed,
                 (unsigned long long)(seed * seed));
        tob_mirror_row row = client_row(id, i + 1, seed >> 1);
        assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, 0), TOB_OK);
    }
    tob_buffer text;
    tob_buffer packed;
    tob_buffer unpacked;
    tob_buffer_init(&text, 64u << 20);
    tob_buffer_init(&packed, 64u << 20);
    tob_buffer_init(&unpacked, 64u << 20);
    tob_body *body = NULL;
    assert_int_equal(tob_body_new(mirror, manager, TOB_PART_ALL, false, &body), TOB_OK);
    read_all(body, &text);
    tob_body_free(body);
    assert_int_equal(tob_body_new(mirror, manager, TOB_PART_ALL, true, &body), TOB_OK);
    read_all(body, &packed);
    tob_body_free(body);
    assert_true(text.len > 20 * TOB_BODY_PIECE_BYTES);
    assert_true(packed.len > 2 * TOB_BODY_PIECE_BYTES && packed.len < text.len / 2);
    assert_int_equal(tob_gunzip(packed.data, packed.len, &unpacked), TOB_OK);
    assert_int_equal(unpacked.len, text.len);
    assert_memory_equal(unpacked.data, text.data, text.len);
    tob_buffer_fini(&text);
    tob_buffer_fini(&packed);
    tob_buffer_fini(&unpacked);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void a_body_may_be_left_in_the_middle(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = new_manager();
    tob_body *body = NULL;
    const void *bytes = NULL;
    size_t n = 0;
    assert_int_equal(tob_body_new(mirror, manager, TOB_PART_ALL, true, &body), TOB_OK);
    assert_int_equal(tob_body_read(body, &bytes, &n), TOB_OK);
    assert_true(n > 0);
    tob_body_free(body);
    tob_body_free(NULL);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void accept_encoding_is_read_with_its_weights(void **state) {
    (void)state;
    static const struct {
        const char *header;
        bool gzip;
    } cases[] = {
        {"gzip", true},
        {"GZIP", true},
        {"x-gzip", true},
        {"deflate, gzip;q=1.0, *;q=0.5", true},
        {"gzip;q=0.001", true},
        {"gzip ; q=0.5", true},
        {"*", true},
        {"br;q=1, *;q=0.1", true},
        {"gzip;q=0, *", false},
        {"*, gzip;q=0", false},
        {"gzip;q=0.000", false},
        {"gzip; Q=0", false},
        {"gzip;q=0.0;x=1", false},
        {"*;q=0", false},
        {"", false},
        {"identity", false},
        {"gzipped", false},
        {"deflate,,br", false},
        {";;;q=,=", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (tob_accepts_gzip(cases[i].header, strlen(cases[i].header)) != cases[i].gzip) {
            fail_msg("'%s'", cases[i].header);
        }
    }
    assert_false(tob_accepts_gzip(NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gzip_carries_the_same_text),
        cmocka_unit_test(a_body_may_be_left_in_the_middle),
        cmocka_unit_test(accept_encoding_is_read_with_its_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
