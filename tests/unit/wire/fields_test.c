#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "wire/fields.h"

static void fields_come_in_the_order_of_the_bytes_with_their_content(void **state) {
    (void)state;
    Tobogganing__V1__Batch batch = TOBOGGANING__V1__BATCH__INIT;
    Tobogganing__V1__ClientSeries series = TOBOGGANING__V1__CLIENT_SERIES__INIT;
    Tobogganing__V1__ClientSeries *clients[] = {&series, &series};
    uint8_t packed[256];
    series.client_id = (char *)"c-1";
    batch.agent_id = (char *)"agent";
    batch.boot_id = 7;   // fixed64
    batch.number = 1000; // a varint of two bytes
    batch.clients = clients;
    batch.n_clients = 2;
    tob_fields fields = tob_fields_of(packed, tobogganing__v1__batch__pack(&batch, packed));
    static const uint32_t expected[] = {1, 2, 3, 4, 4, 0, 0};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        tob_field field;
        assert_int_equal(tob_fields_next(&fields, &field), TOB_OK);
        assert_int_equal(field.number, expected[i]);
        if (field.number == 1) {
            assert_int_equal(field.len, 5);
            assert_memory_equal(field.bytes, "agent", 5);
        } else if (field.number == 2 || field.number == 3) {
            assert_null(field.bytes);
        }
    }
}

static void broken_bytes_are_malformed_and_nothing_past_the_end_is_read(void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t n;
    } rows[] = {
        {{0x0a}, 1},                                                           // a tag without its length
        {{0x0a, 5, 'a'}, 3},                                                   // a length past the end
        {{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 11}, // likewise, by far
        {{0x80}, 1},                                                           // a cut varint
        {{0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, 12}, // an overlong one
        {{0x09, 1, 2, 3}, 4},                                                        // a cut fixed64
        {{0x0d, 1, 2, 3}, 4},                                                        // a cut fixed32
        {{0x0b}, 1},                                                                 // a group
        {{0x00, 1}, 2},                                                              // field 0
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t *exact = malloc(rows[i].n); // so that a sanitizer sees a read past the end
        memcpy(exact, rows[i].bytes, rows[i].n);
        tob_fields fields = tob_fields_of(exact, rows[i].n);
        tob_field field;
        assert_int_equal(tob_fields_next(&fields, &field), TOB_MALFORMED);
        free(exact);
    }
}

static void nothing_has_no_fields(void **state) {
    (void)state;
    tob_fields fields = tob_fields_of(NULL, 0);
    tob_field field;
    assert_int_equal(tob_fields_next(&fields, &field), TOB_OK);
    assert_int_equal(field.number, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_in_the_order_of_the_bytes_with_their_content),
        cmocka_unit_test(broken_bytes_are_malformed_and_nothing_past_the_end_is_read),
        cmocka_unit_test(nothing_has_no_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
