#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ingestd/positions.h"

static void places_are_as_far_apart_as_the_segments_between_them(void **state) {
    (void)state;
    static const struct {
        tob_position from, to;
        uint64_t apart;
    } rows[] = {
        {{1, 40}, {1, 40}, 0},    {{1, 40}, {1, 100}, 60},  {{1, 100}, {1, 40}, 0},
        {{2, 40}, {1, 100}, 0},   {{1, 900}, {2, 40}, 140}, {{1, 900}, {4, 40}, 2140},
        {{1, 1500}, {2, 40}, 40}, {{0, 0}, {1, 40}, 1040},  {{1, 40}, {UINT64_MAX, 40}, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(tob_positions_apart(rows[i].from, rows[i].to, 1000), rows[i].apart);
    }
}

static void a_message_and_a_place_are_the_same(void **state) {
    (void)state;
    Tobogganing__V1__Position message = tob_position_message((tob_position){3, 400});
    assert_int_equal(tob_position_compare(tob_position_of(&message), (tob_position){3, 400}), 0);
    assert_int_equal(tob_position_of(NULL).segment, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_as_far_apart_as_the_segments_between_them),
        cmocka_unit_test(a_message_and_a_place_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
