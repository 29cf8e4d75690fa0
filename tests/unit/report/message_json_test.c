#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"

#include "report/message_json.h"

static void assert_json(const ProtobufCMessage *message, tob_message_json_style style, const char *want) {
    json_t *json = tob_message_json(message, style);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, want);
    free(text);
    json_decref(json);
}

static void a_message_has_the_names_of_its_proto(void **state) {
    Tobogganing__V1__ListClientsResponse list = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    Tobogganing__V1__Client client = TOBOGGANING__V1__CLIENT__INIT;
    Tobogganing__V1__Client *rows[] = {&client};
    uint8_t hash[] = {0x00, 0xab, 0xff};
    (void)state;
    client.client_id = (char[]){"a\"b"};
    client.created_unix_ms = 1;
    client.key_generation = UINT32_MAX;
    client.key_sha256 = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
    list.clients = rows;
    list.n_clients = 1;
    assert_json(&list.base, TOB_MESSAGE_JSON_PLAIN,
                "{\"clients\":[{\"client_id\":\"a\\\"b\",\"name\":\"\",\"type\":\"\",\"cluster_id\":\"\","
                "\"created_unix_ms\":1,\"revoked_unix_ms\":0,\"public_key\":\"\",\"location\":\"\","
                "\"key_generation\":4294967295,\"key_created_unix_ms\":0,\"previous_key_expires_unix_ms\":0,"
                "\"key_sha256\":\"00abff\"}],\"next_page\":\"\"}");
}

static void times_are_text_when_wanted_and_bytes_that_are_none_are_left_out(void **state) {
    Tobogganing__V1__Client client = TOBOGGANING__V1__CLIENT__INIT;
    Tobogganing__V1__Headend headend = TOBOGGANING__V1__HEADEND__INIT;
    (void)state;
    client.created_unix_ms = 1732269600001;
    client.revoked_unix_ms = UINT64_MAX;
    assert_json(&client.base, TOB_MESSAGE_JSON_TIMES,
                "{\"client_id\":\"\",\"name\":\"\",\"type\":\"\",\"cluster_id\":\"\","
                "\"created\":\"2024-11-22T10:00:00.001Z\",\"revoked\":\"9999-12-31T23:59:59.999Z\","
                "\"public_key\":\"\",\"location\":\"\",\"key_generation\":0,\"key_created\":null,"
                "\"previous_key_expires\":null}");
    headend.tokens_not_before_unix_s = UINT64_MAX;
    json_t *json = tob_message_json(&headend.base, TOB_MESSAGE_JSON_TIMES);
    assert_string_equal(json_string_value(json_object_get(json, "tokens_not_before")),
                        "9999-12-31T23:59:59.999Z");
    json_decref(json);
}

static void numbers_that_json_readers_lose_are_texts(void **state) {
    Tobogganing__V1__HealthCheckResponse health = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    (void)state;
    health.status = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    health.instance = 0xab;
    health.clients = UINT64_MAX;
    health.headends = INT64_MAX;
    json_t *json = tob_message_json(&health.base, TOB_MESSAGE_JSON_PLAIN);
    assert_string_equal(json_string_value(json_object_get(json, "status")), "STATUS_SERVING");
    assert_string_equal(json_string_value(json_object_get(json, "instance")), "00000000000000ab");
    assert_string_equal(json_string_value(json_object_get(json, "clients")), "18446744073709551615");
    assert_true(json_integer_value(json_object_get(json, "headends")) == INT64_MAX);
    assert_true(json_is_null(json_object_get(json, "journal_end")));
    json_decref(json);
}

static void a_time_is_rfc_3339(void **state) {
    static const struct {
        uint64_t unix_ms;
        const char *text;
    } table[] = {
        {0, "1970-01-01T00:00:00Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {951782400000, "2000-02-29T00:00:00Z"},
        {1732269600120, "2024-11-22T10:00:00.120Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "9999-12-31T23:59:59.999Z"},
    };
    char text[TOB_TIME_TEXT_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        assert_string_equal(tob_time_text(table[i].unix_ms, text), table[i].text);
    }
    json_t *none = tob_time_json(0);
    assert_true(json_is_null(none));
    json_decref(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_the_names_of_its_proto),
        cmocka_unit_test(times_are_text_when_wanted_and_bytes_that_are_none_are_left_out),
        cmocka_unit_test(numbers_that_json_readers_lose_are_texts),
        cmocka_unit_test(a_time_is_rfc_3339),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
