// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <string.h>

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/output.h"

static void a_message_becomes_json_under_its_proto_names(void **state) {
    (void)state;
    Tobogganing__V1__Position end = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__HealthCheckResponse h = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    end.segment = 3;
    end.offset = UINT64_MAX;
    h.status = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    h.version = (char *)"1.2";
    h.instance = UINT64_C(0xfedcba9876543210);
    h.clients = 7;
    h.journal_end = &end;
    json_t *json = tob_ctl_json(&h.base);
    assert_string_equal(json_string_value(json_object_get(json, "status")), "STATUS_SERVING");
    assert_string_equal(json_string_value(json_object_get(json, "version")), "1.2");
    assert_string_equal(json_string_value(json_object_get(json, "instance")), "fedcba9876543210");
    assert_int_equal(json_integer_value(json_object_get(json, "clients")), 7);
    const json_t *position = json_object_get(json, "journal_end");
    assert_int_equal(json_integer_value(json_object_get(position, "segment")), 3);
    assert_string_equal(json_string_value(json_object_get(position, "offset")), "18446744073709551615");
    json_decref(json);
    h.journal_end = NULL;
    h.status = (Tobogganing__V1__HealthCheckResponse__Status)9; // of a newer ingestd
    json = tob_ctl_json(&h.base);
    assert_true(json_is_null(json_object_get(json, "journal_end")));
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 9);
    json_decref(json);
}

static void repeated_fields_become_arrays(void **state) {
    (void)state;
    Tobogganing__V1__Client a = TOBOGGANING__V1__CLIENT__INIT;
    Tobogganing__V1__Client b = TOBOGGANING__V1__CLIENT__INIT;
    Tobogganing__V1__Client *clients[] = {&a, &b};
    Tobogganing__V1__ListClientsResponse list = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    a.client_id = (char *)"a";
    b.client_id = (char *)"b";
    list.clients = clients;
    list.n_clients = 2;
    json_t *json = tob_ctl_json(&list.base);
    const json_t *array = json_object_get(json, "clients");
    assert_int_equal(json_array_size(array), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(array, 1), "client_id")), "b");
    json_decref(json);

    uint64_t sequences[] = {1, 2, UINT64_MAX};
    char *removed[] = {(char *)"x"};
    Tobogganing__V1__Heartbeat beat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    beat.last_sequences = sequences;
    beat.n_last_sequences = 3;
    message.heartbeat = &beat;
    message.removed_clients = removed;
    message.n_removed_clients = 1;
    json = tob_ctl_json(&message.base);
    array = json_object_get(json_object_get(json, "heartbeat"), "last_sequences");
    assert_int_equal(json_integer_value(json_array_get(array, 1)), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "removed_clients"), 0)), "x");
    json_decref(json);
}

static void times_are_rfc_3339_in_utc_and_0_is_empty(void **state) {
    (void)state;
    char text[TOB_TIME_TEXT_BYTES];
    assert_string_equal(tob_ctl_time(1700000000999, text), "2023-11-14T22:13:20Z");
    assert_string_equal(tob_ctl_time(0, text), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_becomes_json_under_its_proto_names),
        cmocka_unit_test(repeated_fields_become_arrays),
        cmocka_unit_test(times_are_rfc_3339_in_utc_and_0_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
