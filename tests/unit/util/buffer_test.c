#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/buffer.h"

static void appended_bytes_are_kept_in_order(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 1000);
    assert_int_equal(tob_buffer_append(&buffer, "a\0b", 3), TOB_OK);
    assert_int_equal(tob_buffer_append(&buffer, "cd", 2), TOB_OK);
    assert_int_equal(buffer.len, 5);
    assert_memory_equal(buffer.data, "a\0bcd", 5);
    tob_buffer_fini(&buffer);
}

static void it_grows_to_its_maximum_and_not_a_byte_further(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tob_buffer_append(&buffer, &(char){(char)i}, 1), TOB_OK);
    }
    assert_int_equal(tob_buffer_append(&buffer, "x", 1), TOB_TOO_LARGE);
    assert_int_equal(buffer.len, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buffer.data[i], (uint8_t)i);
    }
    assert_true(buffer.capacity <= 1000);
    tob_buffer_fini(&buffer);
}

static void a_refused_append_leaves_the_content(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 4);
    assert_int_equal(tob_buffer_append(&buffer, "abc", 3), TOB_OK);
    assert_int_equal(tob_buffer_append(&buffer, "de", 2), TOB_TOO_LARGE);
    assert_int_equal(tob_buffer_append(&buffer, "x", SIZE_MAX), TOB_TOO_LARGE);
    assert_int_equal(buffer.len, 3);
    assert_memory_equal(buffer.data, "abc", 3);
    tob_buffer_fini(&buffer);
}

static void clear_keeps_the_memory_and_fini_gives_it_back(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 4096);
    assert_int_equal(tob_buffer_append(&buffer, "hello", 5), TOB_OK);
    size_t capacity = buffer.capacity;
    tob_buffer_clear(&buffer);
    assert_int_equal(buffer.len, 0);
    assert_int_equal(buffer.capacity, capacity);
    tob_buffer_fini(&buffer);
    assert_null(buffer.data);
    assert_int_equal(tob_buffer_append(&buffer, "again", 5), TOB_OK);
    tob_buffer_fini(&buffer);
    tob_buffer_fini(&(tob_buffer){0});
}

static void reserved_room_is_writable_and_counted_by_the_caller(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 300);
    uint8_t *to = NULL;
    assert_int_equal(tob_buffer_reserve(&buffer, 300, &to), TOB_OK);
    memset(to, 'z', 300);
    assert_int_equal(buffer.len, 0);
    buffer.len = 300;
    assert_int_equal(tob_buffer_reserve(&buffer, 1, &to), TOB_TOO_LARGE);
    assert_int_equal(buffer.data[299], 'z');
    tob_buffer_fini(&buffer);
}

static void appending_nothing_to_an_empty_buffer_is_fine(void **state) {
    (void)state;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 0);
    assert_int_equal(tob_buffer_append(&buffer, NULL, 0), TOB_OK);
    assert_int_equal(tob_buffer_append(&buffer, "x", 1), TOB_TOO_LARGE);
    tob_buffer_fini(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_are_kept_in_order),
        cmocka_unit_test(it_grows_to_its_maximum_and_not_a_byte_further),
        cmocka_unit_test(a_refused_append_leaves_the_content),
        cmocka_unit_test(clear_keeps_the_memory_and_fini_gives_it_back),
        cmocka_unit_test(reserved_room_is_writable_and_counted_by_the_caller),
        cmocka_unit_test(appending_nothing_to_an_empty_buffer_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
