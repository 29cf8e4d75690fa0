#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "wire/compress.h"

static tob_deflater *deflater;
static tob_inflater *inflater;
static tob_buffer packed;

static int setup(void **state) {
    (void)state;
    assert_int_equal(tob_deflater_new(6, &deflater), TOB_OK);
    assert_int_equal(tob_inflater_new(&inflater), TOB_OK);
    tob_buffer_init(&packed, 1 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tob_deflater_free(deflater);
    tob_inflater_free(inflater);
    tob_buffer_fini(&packed);
    return 0;
}

static void what_goes_in_comes_out(void **state) {
    (void)state;
    static uint8_t in[100000], out[100000];
    for (size_t n = 0; n < sizeof(in); n = n * 2 + 1) {
        for (size_t i = 0; i < n; i++) {
            in[i] = (uint8_t)(i * i >> 3);
        }
        tob_buffer_clear(&packed);
        assert_int_equal(tob_deflate(deflater, in, n, &packed), TOB_OK);
        assert_int_equal(tob_inflate(inflater, packed.data, packed.len, out, n), TOB_OK);
        assert_memory_equal(in, out, n);
    }
}

static void the_size_must_be_exact_and_nothing_may_follow(void **state) {
    (void)state;
    char out[64];
    assert_int_equal(tob_deflate(deflater, "twelve bytes", 12, &packed), TOB_OK);
    assert_int_equal(tob_inflate(inflater, packed.data, packed.len, out, 11), TOB_MALFORMED);
    assert_int_equal(tob_inflate(inflater, packed.data, packed.len, out, 13), TOB_MALFORMED);
    assert_int_equal(tob_inflate(inflater, packed.data, packed.len - 1, out, 12), TOB_MALFORMED);
    assert_int_equal(tob_buffer_append(&packed, "x", 1), TOB_OK);
    assert_int_equal(tob_inflate(inflater, packed.data, packed.len, out, 12), TOB_MALFORMED);
    assert_int_equal(tob_inflate(inflater, "garbage garbage", 15, out, 12), TOB_MALFORMED);
    assert_int_equal(tob_inflate(inflater, packed.data, packed.len - 1, out, 12), TOB_OK); // and it goes on
}

// gzip by zlib itself.
static size_t gzip(const void *in, size_t n, uint8_t *out, size_t room) {
    z_stream z = {.next_in = (Bytef *)in, .avail_in = (uInt)n, .next_out = out, .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

static void gzip_is_read_up_to_the_maximum(void **state) {
    (void)state;
    static uint8_t in[60000];
    uint8_t zipped[4096];
    tob_buffer out;
    size_t n = gzip(in, sizeof(in), zipped, sizeof(zipped));
    tob_buffer_init(&out, sizeof(in));
    assert_int_equal(tob_gunzip(zipped, n, &out), TOB_OK);
    assert_int_equal(out.len, sizeof(in));
    tob_buffer_fini(&out);
    tob_buffer_init(&out, sizeof(in) - 1);
    assert_int_equal(tob_gunzip(zipped, n, &out), TOB_TOO_LARGE);
    tob_buffer_fini(&out);
    tob_buffer_init(&out, sizeof(in) * 2);
    assert_int_equal(tob_gunzip(zipped, n - 5, &out), TOB_MALFORMED);
    assert_int_equal(tob_gunzip("{}", 2, &out), TOB_MALFORMED);
    assert_int_equal(tob_gunzip("", 0, &out), TOB_MALFORMED);
    tob_buffer_clear(&out);
    memmove(zipped + n, zipped, n); // two members
    assert_int_equal(tob_gunzip(zipped, 2 * n, &out), TOB_OK);
    assert_int_equal(out.len, 2 * sizeof(in));
    tob_buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_goes_in_comes_out, setup, teardown),
        cmocka_unit_test_setup_teardown(the_size_must_be_exact_and_nothing_may_follow, setup, teardown),
        cmocka_unit_test_setup_teardown(gzip_is_read_up_to_the_maximum, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
