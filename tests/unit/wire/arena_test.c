#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"

#include "wire/arena.h"
#include "wire/batch.h"
#include "wire/check.h"

static tob_error unpack(const ProtobufCMessageDescriptor *type, const void *bytes, size_t n,
                        size_t max_bytes) {
    tob_arena *arena = NULL;
    ProtobufCMessage *message = NULL;
    assert_int_equal(tob_arena_new(max_bytes, &arena), TOB_OK);
    tob_error err = tob_arena_unpack(arena, type, bytes, n, &message);
    tob_arena_free(arena);
    return err;
}

static const ProtobufCMessageDescriptor *const batch_type = &tobogganing__v1__batch__descriptor;

static void allocations_are_aligned_and_apart(void **state) {
    (void)state;
    tob_arena *arena = NULL;
    assert_int_equal(tob_arena_new(1 << 20, &arena), TOB_OK);
    uint8_t *before = NULL;
    for (size_t n = 0; n < 2000; n += 7) {
        uint8_t *memory = tob_arena_alloc(arena, n);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 16, 0);
        assert_ptr_not_equal(memory, n ? before : NULL);
        memset(memory, 0xab, n);
        before = n ? memory : NULL;
    }
    tob_arena_free(arena);
}

static void the_cap_holds_and_clear_gives_it_back(void **state) {
    (void)state;
    tob_arena *arena = NULL;
    assert_int_equal(tob_arena_new(100000, &arena), TOB_OK);
    for (int round = 0; round < 3; round++) {
        size_t total = 0;
        while (tob_arena_alloc(arena, 1000)) {
            total += 1000;
        }
        assert_in_range(total, 60000, 100000);
        assert_int_equal(tob_arena_error(arena), TOB_TOO_LARGE);
        tob_arena_clear(arena);
        assert_int_equal(tob_arena_error(arena), TOB_OK);
    }
    assert_null(tob_arena_alloc(arena, 100001));
    assert_null(tob_arena_alloc(arena, SIZE_MAX));
    tob_arena_free(arena);
}

static void a_budget_holds_for_all_its_arenas_together(void **state) {
    (void)state;
    enum { MAX = 1 << 20 };
    tob_arena_budget budget;
    tob_arena *a = NULL, *b = NULL;
    tob_arena_budget_init(&budget, MAX);
    assert_int_equal(tob_arena_new_within(2 * MAX, &budget, &a), TOB_OK);
    assert_int_equal(tob_arena_new_within(2 * MAX, &budget, &b), TOB_OK);
    assert_int_equal(tob_arena_budget_used(&budget), 0);
    assert_non_null(tob_arena_alloc(a, MAX * 3 / 4));
    assert_null(tob_arena_alloc(b, MAX / 2));
    assert_int_equal(tob_arena_error(b), TOB_BUSY);
    assert_null(tob_arena_alloc(b, MAX + 1)); // more than there ever is
    assert_int_equal(tob_arena_error(b), TOB_BUSY);
    tob_arena_clear(a);
    tob_arena_clear(b);
    assert_non_null(tob_arena_alloc(b, MAX / 2));
    assert_in_range(tob_arena_budget_used(&budget), MAX / 2, MAX / 2 + 2 * TOB_ARENA_KEPT_BYTES);
    tob_arena_free(a);
    tob_arena_free(b);
    assert_int_equal(tob_arena_budget_used(&budget), 0);
}

static void a_cleared_arena_keeps_one_small_chunk_and_none_when_memory_is_short(void **state) {
    (void)state;
    enum { MAX = 1 << 20 };
    tob_arena_budget budget;
    tob_arena *a = NULL, *b = NULL;
    tob_arena_budget_init(&budget, MAX);
    assert_int_equal(tob_arena_new_within(MAX, &budget, &a), TOB_OK);
    assert_int_equal(tob_arena_new_within(MAX, &budget, &b), TOB_OK);
    for (size_t n = 0; n < 1000; n++) {
        assert_non_null(tob_arena_alloc(a, 100));
    }
    tob_arena_clear(a);
    assert_in_range(tob_arena_budget_used(&budget), 1, TOB_ARENA_KEPT_BYTES);
    assert_non_null(tob_arena_alloc(b, MAX * 3 / 4));
    size_t before = tob_arena_budget_used(&budget);
    tob_arena_clear(a);
    assert_true(tob_arena_budget_used(&budget) < before);
    tob_arena_clear(b);
    assert_int_equal(tob_arena_budget_used(&budget), 0);
    tob_arena_free(a);
    tob_arena_free(b);
}

static void hostile_counts_end_at_the_cap(void **state) {
    (void)state;
    // 100 000 empty ClientSeries of 2 bytes each ask for far more memory than their bytes.
    size_t n = 200000;
    uint8_t *bytes = malloc(n);
    for (size_t i = 0; i < n; i += 2) {
        bytes[i] = 4 << 3 | 2;
        bytes[i + 1] = 0;
    }
    assert_int_equal(unpack(batch_type, bytes, n, 1 << 20), TOB_TOO_LARGE);
    assert_int_equal(unpack(batch_type, bytes, n, 64 << 20), TOB_OK);
    free(bytes);
}

static void broken_wire_format_is_malformed(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x0a", 1}, // a length is missing
        {"\x0a\x05"
         "ab",
         4},                                                      // shorter than it says
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     // a length near 2^64
        {"\x03", 1},                                              // group start of field 0
        {"\x0b\x0c", 2},                                          // a group
        {"\x0f", 1},                                              // wire type 7
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, // a varint of 11 bytes
        {"\x11\x01\x02", 3},                                      // a fixed64 of 2 bytes
        {"\x0a\x02\xc3\x28", 4},                                  // not UTF-8
        {"\x0a\x03"
         "a\0b",
         5},                             // NUL in a string
        {"\x22\x04\x0a\x02\xc3\x28", 6}, // not UTF-8, one level down
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(unpack(batch_type, bad[i].bytes, bad[i].n, 1 << 20), TOB_MALFORMED);
    }
    assert_int_equal(unpack(batch_type, "", 0, 1 << 20), TOB_OK);
    assert_int_equal(unpack(batch_type, NULL, 0, 1 << 20), TOB_OK);
}

static void a_few_unknown_fields_pass_and_many_do_not(void **state) {
    (void)state;
    uint8_t bytes[(TOB_MAX_UNKNOWN_FIELDS + 1) * 2];
    for (size_t i = 0; i < sizeof(bytes); i += 2) {
        bytes[i] = 15 << 3; // field 15, varint
        bytes[i + 1] = 1;
    }
    assert_int_equal(unpack(batch_type, bytes, sizeof(bytes) - 2, 1 << 20), TOB_OK);
    assert_int_equal(unpack(batch_type, bytes, sizeof(bytes), 1 << 20), TOB_TOO_LARGE);
}

static void small_requests_are_served_when_large_ones_have_taken_the_rest(void **state) {
    (void)state;
    enum { MAX = 32 * TOB_ARENA_KEPT_BYTES };
    tob_arena_budget budget;
    tob_arena *large = NULL, *small = NULL;
    tob_arena_budget_init(&budget, MAX);
    assert_int_equal(tob_arena_new_within(2 * MAX, &budget, &large), TOB_OK);
    assert_int_equal(tob_arena_new_within(2 * MAX, &budget, &small), TOB_OK);
    assert_null(tob_arena_alloc(large, MAX - MAX / TOB_ARENA_SET_ASIDE)); // with its chunk's header too much
    assert_int_equal(tob_arena_error(large), TOB_BUSY);
    assert_non_null(tob_arena_alloc(large, MAX - MAX / TOB_ARENA_SET_ASIDE - 64));
    assert_non_null(tob_arena_alloc(small, 1024));
    assert_null(tob_arena_alloc(small, 2 * TOB_ARENA_KEPT_BYTES)); // not small any more
    assert_int_equal(tob_arena_error(small), TOB_BUSY);
    tob_arena_free(large);
    tob_arena_free(small);
    assert_int_equal(tob_arena_budget_used(&budget), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_aligned_and_apart),
        cmocka_unit_test(the_cap_holds_and_clear_gives_it_back),
        cmocka_unit_test(a_budget_holds_for_all_its_arenas_together),
        cmocka_unit_test(small_requests_are_served_when_large_ones_have_taken_the_rest),
        cmocka_unit_test(a_cleared_arena_keeps_one_small_chunk_and_none_when_memory_is_short),
        cmocka_unit_test(hostile_counts_end_at_the_cap),
        cmocka_unit_test(broken_wire_format_is_malformed),
        cmocka_unit_test(a_few_unknown_fields_pass_and_many_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
