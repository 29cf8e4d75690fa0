#include "ingestd/registry_clients.h"
#include "registry_service_rig.h"

static Tobogganing__V1__RotateClientKeyResponse *rotate_ok(fixture *f, const char *id, uint64_t grace_s) {
    Tobogganing__V1__RotateClientKeyRequest request = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    Tobogganing__V1__RotateClientKeyResponse *response = NULL;
    request.client_id = (char *)id;
    request.grace_s = grace_s;
    expect_ok(f, CALL(f, "RotateClientKey", &request, rotate_client_key_response, &response));
    return response;
}

static void a_rotated_key_overlaps_for_the_grace_to_the_millisecond(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    uint64_t before = tob_clock_unix_ms();
    Tobogganing__V1__RotateClientKeyResponse *b = rotate_ok(f, "c", 3600);
    uint64_t ends = b->client->previous_key_expires_unix_ms;
    assert_in_range(ends, before + 3600000, tob_clock_unix_ms() + 3600000);
    assert_int_equal(b->client->key_generation, 2);
    assert_string_not_equal(a->api_key, b->api_key);
    assert_int_equal(key_match(f, "c", b->api_key, ends + 1), TOB_KEY_NEWEST);
    assert_int_equal(key_match(f, "c", a->api_key, ends - 1), TOB_KEY_PREVIOUS);
    assert_int_equal(key_match(f, "c", a->api_key, ends), TOB_KEY_WRONG);
    // Once more in the overlap: two live keys, not three.
    Tobogganing__V1__RotateClientKeyResponse *c = rotate_ok(f, "c", 3600);
    assert_int_equal(key_match(f, "c", a->api_key, before), TOB_KEY_WRONG);
    assert_int_equal(key_match(f, "c", b->api_key, before), TOB_KEY_PREVIOUS);
    assert_int_equal(key_match(f, "c", c->api_key, before), TOB_KEY_NEWEST);
    // Without a grace, at once.
    Tobogganing__V1__RotateClientKeyResponse *d = rotate_ok(f, "c", 0);
    assert_int_equal(d->client->previous_key_expires_unix_ms, 0);
    assert_int_equal(key_match(f, "c", c->api_key, before), TOB_KEY_WRONG);
    assert_int_equal(key_match(f, "c", d->api_key, before), TOB_KEY_NEWEST);
    drop(a);
    drop(b);
    drop(c);
    drop(d);
}

static void an_overlap_that_is_over_is_not_shown(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    Tobogganing__V1__RotateClientKeyResponse *b = rotate_ok(f, "c", 1);
    Tobogganing__V1__ClientId id = client_id("c");
    Tobogganing__V1__Client *now = NULL;
    assert_true(b->client->previous_key_expires_unix_ms > 0);
    while (tob_clock_unix_ms() < b->client->previous_key_expires_unix_ms) {
        assert_true(key_opens(f, "c", a->api_key) ||
                    tob_clock_unix_ms() >= b->client->previous_key_expires_unix_ms);
        sched_yield();
    }
    assert_false(key_opens(f, "c", a->api_key));
    expect_ok(f, CALL(f, "GetClient", &id, client, &now));
    assert_int_equal(now->previous_key_expires_unix_ms, 0);
    drop(now);
    drop(a);
    drop(b);
}

static void the_overlap_can_be_ended(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    Tobogganing__V1__RotateClientKeyResponse *b = rotate_ok(f, "c", 3600);
    Tobogganing__V1__ClientId id = client_id("c");
    Tobogganing__V1__Client *now = NULL;
    for (int i = 0; i < 2; i++) {
        expect_ok(f, CALL(f, "RevokePreviousKey", &id, client, &now));
        assert_int_equal(now->previous_key_expires_unix_ms, 0);
        drop(now);
        assert_false(key_opens(f, "c", a->api_key));
        assert_true(key_opens(f, "c", b->api_key));
    }
    drop(a);
    drop(b);
    id = client_id("d");
    FAILS(f, "RevokePreviousKey", &id, TOB_NOT_FOUND, "client_id: no such client");
}

static void a_client_rotates_its_own_key_and_nobody_elses(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *ann = add_client_ok(f, "ann", "");
    Tobogganing__V1__AddClientResponse *ben = add_client_ok(f, "ben", "");
    tob_rpc_client *admin = f->client;
    f->client = client_with(f, ann->api_key);
    Tobogganing__V1__RotateClientKeyRequest request = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    request.client_id = (char *)"ben";
    FAILS(f, "RotateClientKey", &request, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    request.client_id = (char *)"nobody";
    FAILS(f, "RotateClientKey", &request, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    assert_int_equal(attempts(f, "api_key", "failure"), 2);
    Tobogganing__V1__RotateClientKeyResponse *rotated = rotate_ok(f, "ann", 60);
    assert_true(key_opens(f, "ann", rotated->api_key));
    assert_int_equal(attempts(f, "api_key", "success"), 1);
    assert_int_equal(attempts(f, "admin", "failure"), 0);
    Tobogganing__V1__ClientId id = client_id("ann"); // no other method
    void *none = NULL;
    assert_int_equal(CALL(f, "RevokeClient", &id, client, &none), TOB_UNAUTHENTICATED);
    assert_int_equal(attempts(f, "admin", "failure"), 1);
    tob_rpc_client_free(f->client);
    f->client = admin;
    expect_audit(f, "ann", "client ann", "client.rotate_key");
    drop(rotated);
    drop(ann);
    drop(ben);
}

// As another process of whose change the directory has not heard.
static void replace_key_unheard(fixture *f, const char *id, const char *key,
                                uint64_t previous_expires_unix_ms) {
    static const tob_registry_actor other = {.who = "admin", .peer = ""};
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(key, strlen(key), hash);
    assert_int_equal(tob_registry_begin(f->registry, &other, tob_clock_unix_ms()), TOB_OK);
    assert_int_equal(tob_registry_rotate_client_key(f->registry, id, hash, previous_expires_unix_ms), TOB_OK);
    assert_int_equal(tob_registry_commit(f->registry), TOB_OK);
}

static void a_key_that_was_replaced_unheard_gets_no_new_one(void **state) {
    fixture *f = *state;
    if (strcmp(tob_registry_engine(f->registry), "sqlite") != 0) {
        skip(); // PostgreSQL would tell
    }
    Tobogganing__V1__AddClientResponse *ann = add_client_ok(f, "ann", "");
    tob_rpc_client *admin = f->client, *stale = client_with(f, ann->api_key);
    Tobogganing__V1__RotateClientKeyRequest request = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    request.client_id = (char *)"ann";
    request.grace_s = 60;
    f->client = stale;
    replace_key_unheard(f, "ann", "tobk_other", tob_clock_unix_ms() + 60000);
    drop(rotate_ok(f, "ann", 60)); // within the overlap
    replace_key_unheard(f, "ann", "tobk_another", 0);
    assert_true(key_opens(f, "ann", "tobk_other")); // as far as the directory knows
    f->client = client_with(f, "tobk_other");
    FAILS(f, "RotateClientKey", &request, TOB_UNAUTHENTICATED,
          "credential: not this client's API key any more");
    tob_rpc_client_free(f->client);
    tob_rpc_client_free(stale);
    f->client = admin;
    drop(ann);
}

static void an_imported_key_of_any_form_rotates_itself(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "ann", ""));
    tob_rpc_client *admin = f->client;
    Tobogganing__V1__ImportedClient row = TOBOGGANING__V1__IMPORTED_CLIENT__INIT, *rows = &row;
    Tobogganing__V1__ImportClientsRequest import = TOBOGGANING__V1__IMPORT_CLIENTS_REQUEST__INIT;
    Tobogganing__V1__ImportClientsResponse *imported = NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256("its.own", 7, hash);
    row.client_id = (char *)"old";
    row.key_sha256 = (ProtobufCBinaryData){.data = hash, .len = sizeof(hash)};
    import.import_id = import.sequence = 1;
    import.commit = true;
    import.clients = &rows;
    import.n_clients = 1;
    expect_ok(f, CALL(f, "ImportClients", &import, import_clients_response, &imported));
    drop(imported);
    f->client = client_with(f, "its.own");
    drop(rotate_ok(f, "old", 0));
    tob_rpc_client_free(f->client);
    f->client = admin;
}

static void a_rotation_is_refused_for_who_is_revoked_or_not_there_and_for_too_long_a_grace(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    Tobogganing__V1__RotateClientKeyRequest request = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    request.client_id = (char *)"nobody";
    FAILS(f, "RotateClientKey", &request, TOB_NOT_FOUND, "client_id: no such client");
    request.client_id = (char *)"c";
    request.grace_s = TOB_REGISTRY_MAX_GRACE_S + 1;
    FAILS(f, "RotateClientKey", &request, TOB_INVALID, "grace_s: must be at most 7776000");
    drop(rotate_ok(f, "c", TOB_REGISTRY_MAX_GRACE_S));
    assert_true(key_opens(f, "c", a->api_key));
    drop(a);
    Tobogganing__V1__ClientId id = client_id("c");
    Tobogganing__V1__Client *revoked = NULL;
    expect_ok(f, CALL(f, "RevokeClient", &id, client, &revoked));
    drop(revoked);
    request.grace_s = 0;
    FAILS(f, "RotateClientKey", &request, TOB_PRECONDITION, "client_id: the client is revoked");
}

static void a_revoked_key_is_refused_as_soon_as_the_answer_is_there(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    Tobogganing__V1__RotateClientKeyResponse *b = rotate_ok(f, "x", 3600);
    assert_true(key_opens(f, "x", a->api_key));
    Tobogganing__V1__ClientId id = client_id("x");
    uint64_t first = 0;
    for (int i = 0; i < 2; i++) {
        Tobogganing__V1__Client *revoked = NULL;
        expect_ok(f, CALL(f, "RevokeClient", &id, client, &revoked));
        assert_true(revoked->revoked_unix_ms > 0);
        first = first ? first : revoked->revoked_unix_ms;
        assert_int_equal(revoked->revoked_unix_ms, first);
        drop(revoked);
        assert_false(key_opens(f, "x", a->api_key));
        assert_false(key_opens(f, "x", b->api_key));
        assert_int_equal(tob_directory_clients(f->directory), 0);
    }
    drop(a);
    drop(b);
    id = client_id("y");
    FAILS(f, "RevokeClient", &id, TOB_NOT_FOUND, "client_id: no such client");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_rotated_key_overlaps_for_the_grace_to_the_millisecond),
        TEST(an_overlap_that_is_over_is_not_shown),
        TEST(the_overlap_can_be_ended),
        TEST(a_client_rotates_its_own_key_and_nobody_elses),
        TEST(a_key_that_was_replaced_unheard_gets_no_new_one),
        TEST(an_imported_key_of_any_form_rotates_itself),
        TEST(a_rotation_is_refused_for_who_is_revoked_or_not_there_and_for_too_long_a_grace),
        TEST(a_revoked_key_is_refused_as_soon_as_the_answer_is_there),
    };
    return RUN_ON_BOTH("client_keys", tests);
}
