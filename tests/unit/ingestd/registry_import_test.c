#include "registry_rig.h"

// Rows of an import; ids are "c-NNNNN".
typedef struct rows {
    tob_registry_client *clients;
    char (*ids)[16];
    size_t count;
} rows;

static rows make_rows(size_t from, size_t count) {
    rows r = {.count = count};
    r.clients = calloc(count, sizeof(*r.clients));
    r.ids = calloc(count, sizeof(*r.ids));
    assert_non_null(r.clients);
    assert_non_null(r.ids);
    for (size_t i = 0; i < count; i++) {
        size_t number = from + (i * 7919) % count; // not in order
        snprintf(r.ids[i], sizeof(r.ids[i]), "c-%05zu", number);
        r.clients[i] = a_client(r.ids[i], number % 3 == 0 ? "k" : number % 3 == 1 ? "l" : "");
        r.clients[i].name = r.ids[i];
        memset(r.clients[i].key_hash, (int)(number % 251), TOB_SHA256_BYTES);
    }
    return r;
}

static void free_rows(rows *r) {
    free(r->clients);
    free(r->ids);
}

static void note_id(void *user, const char *id) {
    assert_int_equal(note(user, id), TOB_OK);
}

static tob_error import(fixture *f, const rows *r, bool skip, words *existing, uint64_t *ret_added) {
    return CHANGE(f, tob_registry_import_clients(f->registry, r->clients, r->count, skip,
                                                 existing ? note_id : NULL, existing, ret_added));
}

static tob_error count_client(void *user, const tob_registry_client *client) {
    size_t *count = user;
    size_t number = strtoul(client->id + 2, NULL, 10);
    assert_string_equal(client->name, client->id);
    assert_int_equal(client->key_hash[31], number % 251);
    assert_string_equal(client->cluster_id, number % 3 == 0 ? "k" : number % 3 == 1 ? "l" : "");
    ++*count;
    return TOB_OK;
}

static void an_import_adds_all_in_one_change(void **state) {
    fixture *f = *state;
    enum { N = 3000 };
    cluster_copy copy;
    words audit = {.count = 0};
    uint64_t added = 0;
    size_t count = 0;
    rows r = make_rows(0, N);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    uint64_t before = f->change;
    assert_int_equal(import(f, &r, false, NULL, &added), TOB_OK);
    assert_int_equal(f->change, before + 1);
    assert_int_equal(added, N);
    assert_int_equal(tob_registry_changed_clients(f->registry, before, count_client, &count), TOB_OK);
    assert_int_equal(count, N);
    assert_int_equal(get_cluster(f, "k", &copy).registered_clients, N / 3);
    assert_int_equal(get_cluster(f, "l", &copy).registered_clients, N / 3);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 1, note_audit, &audit), TOB_OK);
    assert_string_equal(audit.text, "client.import: ");
    free_rows(&r);
}

static void nothing_is_imported_when_an_id_is_taken_and_the_ids_are_told(void **state) {
    fixture *f = *state;
    words existing = {.count = 0}, none = {.count = 0};
    uint64_t added = 77;
    rows r = make_rows(0, 30);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    assert_int_equal(add_client(f, "c-00000", ""), TOB_OK);
    assert_int_equal(add_client(f, "c-00007", ""), TOB_OK);
    assert_int_equal(add_client(f, "c-00007x", ""), TOB_OK);
    assert_int_equal(add_client(f, "c-00029", ""), TOB_OK);
    assert_int_equal(add_client(f, "z", ""), TOB_OK);
    assert_int_equal(import(f, &r, false, &existing, &added), TOB_ALREADY_EXISTS);
    assert_string_equal(existing.text, "c-00000 c-00007 c-00029 ");
    assert_int_equal(added, 77);
    assert_int_equal(tob_registry_get_client(f->registry, "c-00001", note_client, &none), TOB_NOT_FOUND);
    free_rows(&r);
}

static void those_that_are_registered_can_be_left_out(void **state) {
    fixture *f = *state;
    client_copy copy;
    cluster_copy cluster;
    words existing = {.count = 0}, again = {.count = 0};
    uint64_t added = 0;
    rows r = make_rows(0, 30);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    assert_int_equal(add_client(f, "c-00009", ""), TOB_OK);
    assert_int_equal(import(f, &r, true, &existing, &added), TOB_OK);
    assert_string_equal(existing.text, "c-00009 ");
    assert_int_equal(added, 29);
    assert_string_equal(get_client(f, "c-00009", &copy).cluster_id, ""); // as it was
    assert_int_equal(get_cluster(f, "k", &cluster).registered_clients, 9);
    assert_int_equal(import(f, &r, true, &again, &added), TOB_OK);
    assert_int_equal(added, 0);
    assert_int_equal(again.count, 30);
    assert_int_equal(get_cluster(f, "k", &cluster).registered_clients, 9);
    free_rows(&r);
}

static void an_id_that_occurs_twice_is_in_its_own_way(void **state) {
    fixture *f = *state;
    words existing = {.count = 0}, left_out = {.count = 0};
    uint64_t added = 0;
    tob_registry_client twice[] = {a_client("b", ""), a_client("a", ""), a_client("b", ""),
                                   a_client("b", "")};
    rows r = {.clients = twice, .count = 4};
    assert_int_equal(import(f, &r, false, &existing, &added), TOB_ALREADY_EXISTS);
    assert_string_equal(existing.text, "b b ");
    assert_int_equal(import(f, &r, true, &left_out, &added), TOB_OK);
    assert_string_equal(left_out.text, "b b ");
    assert_int_equal(added, 2);
}

static void a_cluster_that_does_not_exist_or_is_revoked_stops_the_import_and_is_named(void **state) {
    fixture *f = *state;
    words clients = {.count = 0};
    rows r = make_rows(0, 30);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such cluster: l");
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "cluster k is revoked");
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &clients), TOB_OK);
    assert_int_equal(clients.count, 0);
    free_rows(&r);
}

static void a_row_that_the_database_refuses_stops_the_import(void **state) {
    fixture *f = *state;
    words clients = {.count = 0};
    tob_registry_client some[] = {a_client("a", ""), a_client("b", ""), a_client("c", "")};
    rows r = {.clients = some, .count = 3};
    some[1].type = "toaster";
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_PRECONDITION);
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &clients), TOB_OK);
    assert_int_equal(clients.count, 0);
    some[1].type = "native";
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_OK);
}

static void an_import_of_nothing_is_fine(void **state) {
    fixture *f = *state;
    uint64_t added = 1;
    rows r = {.count = 0};
    assert_int_equal(import(f, &r, false, NULL, &added), TOB_OK);
    assert_int_equal(added, 0);
}

static void count_call(void *user, const char *id) {
    (void)id;
    ++*(size_t *)user;
}

static void at_most_a_thousand_ids_are_told(void **state) {
    fixture *f = *state;
    size_t told = 0;
    rows r = make_rows(0, 1001);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_import_clients(f->registry, r.clients, r.count, false, count_call,
                                                           &told, NULL)),
                     TOB_ALREADY_EXISTS);
    assert_int_equal(told, 1000);
    assert_non_null(strstr(tob_registry_last_problem(f->registry), "1001"));
    free_rows(&r);
}

static void the_notes_of_deletions_of_what_is_imported_are_dropped(void **state) {
    fixture *f = *state;
    words notes = {.count = 0};
    tob_registry_client some[] = {a_client("a", ""), a_client("b", "")};
    rows r = {.clients = some, .count = 2};
    assert_int_equal(add_client(f, "other", ""), TOB_OK);
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "b", true)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "other", false)), TOB_OK);
    assert_int_equal(import(f, &r, false, NULL, NULL), TOB_OK);
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "client:b:erase client:other ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_import_adds_all_in_one_change),
        TEST(nothing_is_imported_when_an_id_is_taken_and_the_ids_are_told),
        TEST(those_that_are_registered_can_be_left_out),
        TEST(an_id_that_occurs_twice_is_in_its_own_way),
        TEST(a_cluster_that_does_not_exist_or_is_revoked_stops_the_import_and_is_named),
        TEST(a_row_that_the_database_refuses_stops_the_import),
        TEST(an_import_of_nothing_is_fine),
        TEST(at_most_a_thousand_ids_are_told),
        TEST(the_notes_of_deletions_of_what_is_imported_are_dropped),
    };
    return RUN_ON_BOTH("registry_import", tests);
}
