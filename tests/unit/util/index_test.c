#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/index.h"

#define ROWS 5000

// The owner's table: what the index must agree with.
typedef struct table {
    char ids[ROWS][16];
    bool present[ROWS];
} table;

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const table *t = owner;
    *ret_len = strlen(t->ids[row]);
    return t->ids[row];
}

static table *new_table(void) {
    table *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    for (uint32_t row = 0; row < ROWS; row++) {
        snprintf(t->ids[row], sizeof(t->ids[row]), "c-%u", row * 7919);
    }
    return t;
}

static uint32_t find(const tob_index *index, const char *id) {
    return tob_index_find(index, id, strlen(id));
}

static void an_empty_index_finds_and_removes_nothing(void **state) {
    (void)state;
    tob_index index;
    tob_index_init(&index, id_of, NULL);
    assert_int_equal(find(&index, "a"), TOB_INDEX_NONE);
    assert_false(tob_index_remove(&index, "a", 1));
    tob_index_fini(&index);
}

static void it_agrees_with_a_model_over_random_adds_and_removes(void **state) {
    (void)state;
    table *t = new_table();
    tob_index index;
    tob_index_init(&index, id_of, t);
    size_t count = 0;
    srand(42);
    for (int step = 0; step < 100000; step++) {
        // In waves, so that the index fills up and empties again.
        bool grow = (step / 10000) % 2 == 0;
        uint32_t row = (uint32_t)rand() % ROWS;
        if (t->present[row] != grow) {
            if (grow) {
                assert_int_equal(tob_index_add(&index, row), TOB_OK);
                count++;
            } else {
                assert_true(tob_index_remove(&index, t->ids[row], strlen(t->ids[row])));
                count--;
            }
            t->present[row] = grow;
        }
        assert_int_equal(index.count, count);
        assert_int_equal(find(&index, t->ids[row]), t->present[row] ? row : TOB_INDEX_NONE);
        if (step % 5000 == 0) {
            for (row = 0; row < ROWS; row++) {
                assert_int_equal(find(&index, t->ids[row]), t->present[row] ? row : TOB_INDEX_NONE);
            }
        }
    }
    tob_index_fini(&index);
    free(t);
}

static void removing_what_is_not_there_changes_nothing(void **state) {
    (void)state;
    table *t = new_table();
    tob_index index;
    tob_index_init(&index, id_of, t);
    assert_int_equal(tob_index_add(&index, 3), TOB_OK);
    assert_false(tob_index_remove(&index, "other", 5));
    assert_false(tob_index_remove(&index, t->ids[3], strlen(t->ids[3]) - 1)); // a prefix is another id
    assert_int_equal(index.count, 1);
    assert_int_equal(find(&index, t->ids[3]), 3);
    tob_index_fini(&index);
    free(t);
}

static void reserve_makes_the_next_adds_free_of_allocations(void **state) {
    (void)state;
    table *t = new_table();
    tob_index index;
    tob_index_init(&index, id_of, t);
    assert_int_equal(tob_index_reserve(&index, 1000), TOB_OK);
    size_t capacity = index.capacity;
    for (uint32_t row = 0; row < 1000; row++) {
        assert_int_equal(tob_index_add(&index, row), TOB_OK);
    }
    assert_int_equal(index.capacity, capacity);
    assert_true(index.count <= index.capacity - index.capacity / 4);
    tob_index_fini(&index);
    assert_int_equal(find(&index, t->ids[0]), TOB_INDEX_NONE);
    free(t);
}

static void ids_hash_with_xxh64(void **state) {
    (void)state;
    assert_true(tob_id_hash("", 0) == 0xef46db3751d8e999u); // the xxHash specification's value for no input
    assert_true(tob_id_hash("abc", 3) == 0x44bc2cf5ad770999u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_index_finds_and_removes_nothing),
        cmocka_unit_test(it_agrees_with_a_model_over_random_adds_and_removes),
        cmocka_unit_test(removing_what_is_not_there_changes_nothing),
        cmocka_unit_test(reserve_makes_the_next_adds_free_of_allocations),
        cmocka_unit_test(ids_hash_with_xxh64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
