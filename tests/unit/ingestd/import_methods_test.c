#include "ingestd/imports.h"
#include "registry_service_rig.h"

static uint8_t a_hash[TOB_SHA256_BYTES];

// One chunk; its rows are "PREFIX0", "PREFIX1" …
typedef struct chunk {
    Tobogganing__V1__ImportClientsRequest request;
    Tobogganing__V1__ImportedClient *rows;
    Tobogganing__V1__ImportedClient **pointers;
    char (*ids)[TOB_MAX_ID_BYTES + 1];
} chunk;

static chunk *new_chunk(uint64_t import_id, uint32_t sequence, const char *prefix, size_t n, bool commit) {
    chunk *c = calloc(1, sizeof(*c));
    c->rows = calloc(n, sizeof(*c->rows));
    c->pointers = calloc(n, sizeof(void *));
    c->ids = calloc(n, sizeof(*c->ids));
    tobogganing__v1__import_clients_request__init(&c->request);
    for (size_t i = 0; i < n; i++) {
        tobogganing__v1__imported_client__init(&c->rows[i]);
        snprintf(c->ids[i], sizeof(c->ids[i]), "%s%zu", prefix, i);
        c->rows[i].client_id = c->ids[i];
        c->rows[i].key_sha256.data = a_hash;
        c->rows[i].key_sha256.len = sizeof(a_hash);
        c->pointers[i] = &c->rows[i];
    }
    c->request.import_id = import_id;
    c->request.sequence = sequence;
    c->request.clients = c->pointers;
    c->request.n_clients = n;
    c->request.commit = commit;
    return c;
}

static void free_chunk(chunk *c) {
    free(c->rows);
    free(c->pointers);
    free(c->ids);
    free(c);
}

static tob_error send_chunk(fixture *f, const chunk *c, Tobogganing__V1__ImportClientsResponse **ret) {
    return CALL(f, "ImportClients", &c->request, import_clients_response, ret);
}

static Tobogganing__V1__ImportClientsResponse *send_ok(fixture *f, const chunk *c) {
    Tobogganing__V1__ImportClientsResponse *response = NULL;
    expect_ok(f, send_chunk(f, c, &response));
    return response;
}

static void send_simple(fixture *f, uint64_t import_id, uint32_t sequence, const char *prefix, size_t n,
                        bool commit, uint32_t staged, uint32_t added) {
    chunk *c = new_chunk(import_id, sequence, prefix, n, commit);
    Tobogganing__V1__ImportClientsResponse *response = send_ok(f, c);
    assert_int_equal(response->staged, staged);
    assert_int_equal(response->added, added);
    assert_int_equal(response->n_skipped, 0);
    drop(response);
    free_chunk(c);
}

static void chunks_are_added_together_by_the_last(void **state) {
    fixture *f = *state;
    tob_sha256("a key", 5, a_hash);
    send_simple(f, 1, 1, "a", 3, false, 3, 0);
    assert_int_equal(tob_directory_clients(f->directory), 0);
    send_simple(f, 1, 2, "b", 2, false, 5, 0);
    send_simple(f, 1, 2, "b", 2, false, 5, 0); // repeated: taken once
    send_simple(f, 1, 3, "c", 1, true, 6, 6);
    send_simple(f, 1, 3, "c", 1, true, 6, 6); // repeated: the same answer
    assert_int_equal(tob_directory_clients(f->directory), 6);
    assert_true(key_opens(f, "a2", "a key"));
    assert_true(key_opens(f, "c0", "a key"));
    char *audit = audit_ok(f, "");
    assert_non_null(strstr(audit, "admin token b20ec6b0|127.0.0.1|client.import|"));
    free(audit);
}

static void a_chunk_without_those_before_it_is_refused(void **state) {
    fixture *f = *state;
    static const char text[] = "sequence: the chunks before 2 are not here; begin again";
    chunk *c = new_chunk(7, 2, "a", 1, true);
    FAILS(f, "ImportClients", &c->request, TOB_PRECONDITION, text);
    c->request.sequence = 1;
    drop(send_ok(f, c));
    c->request.sequence = 2; // it was committed
    FAILS(f, "ImportClients", &c->request, TOB_PRECONDITION, text);
    c->request.import_id = 8;
    c->request.sequence = 1;
    c->request.commit = false;
    c->ids[0][0] = 'b';
    drop(send_ok(f, c));
    c->request.sequence = 3;
    FAILS(f, "ImportClients", &c->request, TOB_PRECONDITION,
          "sequence: the chunks before 3 are not here; begin again");
    c->request.sequence = 0;
    FAILS(f, "ImportClients", &c->request, TOB_INVALID, "sequence: must not be 0");
    c->request.import_id = 0;
    FAILS(f, "ImportClients", &c->request, TOB_INVALID, "import_id: must not be 0");
    free_chunk(c);
}

static void a_wrong_row_is_named_with_its_field_and_nothing_is_taken(void **state) {
    fixture *f = *state;
    char id129[130], name257[258], url1025[1026];
    fill(id129, sizeof(id129));
    fill(name257, sizeof(name257));
    fill(url1025, sizeof(url1025));
    const struct {
        const char *id, *name, *type, *cluster_id, *public_key, *location, *field;
    } wrong[] = {
        {"", "", "", "", "", "", "client_id"},        {id129, "", "", "", "", "", "client_id"},
        {"a/b", "", "", "", "", "", "client_id"},     {"x", name257, "", "", "", "", "name"},
        {"x", "a\nb", "", "", "", "", "name"},        {"x", "", "windows", "", "", "", "type"},
        {"x", "", "", "k k", "", "", "cluster_id"},   {"x", "", "", id129, "", "", "cluster_id"},
        {"x", "", "", "", url1025, "", "public_key"}, {"x", "", "", "", "a b", "", "public_key"},
        {"x", "", "", "", "", name257, "location"},   {"x", "", "", "", "", "a\x7f", "location"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        chunk *c = new_chunk(1, 1, "a", 3, true);
        char start[64];
        void *none = NULL;
        c->rows[2].client_id = (char *)wrong[i].id;
        c->rows[2].name = (char *)wrong[i].name;
        c->rows[2].type = (char *)wrong[i].type;
        c->rows[2].cluster_id = (char *)wrong[i].cluster_id;
        c->rows[2].public_key = (char *)wrong[i].public_key;
        c->rows[2].location = (char *)wrong[i].location;
        snprintf(start, sizeof(start), "clients[2].%s: must be ", wrong[i].field);
        assert_int_equal(CALL(f, "ImportClients", &c->request, import_clients_response, &none), TOB_INVALID);
        if (strncmp(f->failure.message, start, strlen(start)) != 0) {
            fail_msg("not %s but %s", start, f->failure.message);
        }
        free_chunk(c);
    }
    static const size_t lengths[] = {0, 31};
    for (size_t i = 0; i < 2; i++) {
        chunk *c = new_chunk(1, 1, "a", 2, true);
        c->rows[1].key_sha256.len = lengths[i];
        FAILS(f, "ImportClients", &c->request, TOB_INVALID, "clients[1].key_sha256: must be 32 bytes");
        free_chunk(c);
    }
    assert_int_equal(tob_directory_clients(f->directory), 0);
    // The chunks before stay, and the corrected one is taken.
    send_simple(f, 2, 1, "a", 2, false, 2, 0);
    chunk *c = new_chunk(2, 2, "b/", 1, true);
    FAILS(f, "ImportClients", &c->request, TOB_INVALID,
          "clients[0].client_id: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    free_chunk(c);
    send_simple(f, 2, 2, "b", 1, true, 3, 3);
}

static void registered_ids_are_refused_by_name_or_left_out(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "a1", ""));
    drop(add_client_ok(f, "a3", ""));
    chunk *c = new_chunk(1, 1, "a", 5, true);
    Tobogganing__V1__ImportClientsResponse *response = NULL;
    FAILS(f, "ImportClients", &c->request, TOB_ALREADY_EXISTS,
          "client_id: these are registered, or occur twice: a1, a3");
    assert_int_equal(tob_directory_clients(f->directory), 2);
    c->request.skip_existing = true; // the chunk is still here
    response = send_ok(f, c);
    assert_int_equal(response->staged, 5);
    assert_int_equal(response->added, 3);
    assert_int_equal(response->n_skipped, 2);
    assert_string_equal(response->skipped[0], "a1");
    assert_string_equal(response->skipped[1], "a3");
    drop(response);
    free_chunk(c);
    assert_int_equal(tob_directory_clients(f->directory), 5);
    // All of them, more than can be named.
    c = new_chunk(2, 1, "very-long-identifier-of-a-client-", TOB_IMPORTS_MAX_TOLD + 5, true);
    drop(send_ok(f, c));
    c->request.import_id = 3;
    assert_int_equal(send_chunk(f, c, &response), TOB_ALREADY_EXISTS);
    assert_true(strlen(f->failure.message) < 512);
    assert_non_null(strstr(f->failure.message, ", very-long-identifier-of-a-client-1, "));
    c->request.import_id = 4;
    c->request.skip_existing = true;
    response = send_ok(f, c);
    assert_int_equal(response->added, 0);
    assert_int_equal(response->n_skipped, TOB_IMPORTS_MAX_TOLD);
    drop(response);
    free_chunk(c);
}

static void clusters_are_joined_and_missing_ones_named(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    chunk *c = new_chunk(1, 1, "a", 3, true);
    c->rows[0].cluster_id = c->rows[2].cluster_id = (char *)"k";
    c->rows[1].cluster_id = (char *)"nowhere";
    FAILS(f, "ImportClients", &c->request, TOB_NOT_FOUND, "cluster_id: no such cluster: nowhere");
    assert_int_equal(tob_directory_clients(f->directory), 0);
    c->request.import_id = 2;
    c->rows[1].cluster_id = (char *)"";
    drop(send_ok(f, c));
    free_chunk(c);
    Tobogganing__V1__ClusterId id = cluster_id("k");
    Tobogganing__V1__Cluster *cluster = NULL;
    expect_ok(f, CALL(f, "GetCluster", &id, cluster, &cluster));
    assert_int_equal(cluster->registered_clients, 2);
    drop(cluster);
}

static void so_many_imports_wait_at_once(void **state) {
    fixture *f = *state;
    for (uint64_t i = 1; i <= TOB_REGISTRY_MAX_IMPORTS; i++) {
        char prefix[16];
        snprintf(prefix, sizeof(prefix), "a%u-", (unsigned)i);
        send_simple(f, i, 1, prefix, 1, false, 1, 0);
    }
    chunk *c = new_chunk(99, 1, "x", 1, true);
    FAILS(f, "ImportClients", &c->request, TOB_BUSY, "import_id: 4 imports have begun already");
    assert_int_equal(f->failure.retry_after_ms, TOB_REGISTRY_RETRY_MS);
    send_simple(f, 2, 2, "b", 1, true, 2, 2); // one that is done makes room
    drop(send_ok(f, c));
    free_chunk(c);
}

static void an_import_over_the_limit_is_refused(void **state) {
    fixture *f = *state;
    enum { ROWS = 25000, CHUNKS = TOB_REGISTRY_MAX_IMPORT / ROWS };
    for (uint32_t i = 1; i <= CHUNKS; i++) {
        char prefix[16];
        snprintf(prefix, sizeof(prefix), "%u-", (unsigned)i);
        send_simple(f, 1, i, prefix, ROWS, false, i * ROWS, 0);
    }
    chunk *c = new_chunk(1, CHUNKS + 1, "x", 1, true);
    void *none = NULL;
    assert_int_equal(CALL(f, "ImportClients", &c->request, import_clients_response, &none), TOB_INVALID);
    assert_string_equal(f->failure.message, "clients: over 250000 in one import, or over 128 MiB of text");
    assert_int_equal(tob_directory_clients(f->directory), 0);
    free_chunk(c);
}

static void imports_are_forgotten_when_nobody_goes_on_with_them(void **state) {
    (void)state;
    tob_imports *imports = NULL;
    tob_import *import = NULL;
    const tob_registry_client client = {
        .id = "a", .name = "a", .type = "native", .cluster_id = "", .public_key = "", .location = ""};
    assert_int_equal(tob_imports_new(&imports), TOB_OK);
    assert_int_equal(tob_imports_begin(imports, 5, 1000, &import), TOB_OK);
    assert_int_equal(tob_import_add(import, &client, 1), TOB_OK);
    assert_ptr_equal(tob_imports_find(imports, 5), import);
    assert_true(tob_imports_expire(imports, 1000 + TOB_REGISTRY_IMPORT_IDLE_MS - 1));
    assert_non_null(tob_imports_find(imports, 5));
    assert_false(tob_imports_expire(imports, 1000 + TOB_REGISTRY_IMPORT_IDLE_MS));
    assert_null(tob_imports_find(imports, 5));
    tob_imports_free(imports);
}

static void text_over_the_limit_is_refused_and_nothing_of_it_taken(void **state) {
    (void)state;
    enum { ROWS = 1000 };
    char key[TOB_REGISTRY_MAX_URL_BYTES + 1];
    fill(key, sizeof(key));
    static tob_registry_client clients[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        clients[i] = (tob_registry_client){
            .id = "a", .name = "a", .type = "native", .cluster_id = "", .public_key = key, .location = ""};
    }
    tob_imports *imports = NULL;
    tob_import *import = NULL;
    assert_int_equal(tob_imports_new(&imports), TOB_OK);
    assert_int_equal(tob_imports_begin(imports, 5, 1000, &import), TOB_OK);
    tob_error err = TOB_OK;
    size_t taken = 0;
    while (!err) {
        taken = import->count;
        err = tob_import_add(import, clients, ROWS);
    }
    assert_int_equal(err, TOB_TOO_LARGE);
    assert_int_equal(import->count, taken);
    assert_in_range(taken, TOB_IMPORTS_MAX_TEXT_BYTES / 1100, TOB_IMPORTS_MAX_TEXT_BYTES / 1024);
    tob_imports_free(imports);
}

static void a_page_ends_early_when_its_rows_are_large(void **state) {
    fixture *f = *state;
    enum { ROWS = 2500 };
    char key[TOB_REGISTRY_MAX_URL_BYTES + 1];
    fill(key, sizeof(key));
    chunk *c = new_chunk(1, 1, "a", ROWS, true);
    for (size_t i = 0; i < ROWS; i++) {
        c->rows[i].public_key = key;
    }
    drop(send_ok(f, c));
    free_chunk(c);
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    char next[TOB_MAX_ID_BYTES + 1] = "";
    size_t rows = 0, pages = 0;
    request.page_size = TOB_REGISTRY_MAX_PAGE_ROWS;
    do {
        Tobogganing__V1__ListClientsResponse *page = NULL;
        request.page = next;
        expect_ok(f, CALL(f, "ListClients", &request, list_clients_response, &page));
        assert_in_range(page->n_clients, 1, 1024);
        rows += page->n_clients;
        pages++;
        snprintf(next, sizeof(next), "%s", page->next_page);
        drop(page);
    } while (*next);
    assert_int_equal(rows, ROWS);
    assert_int_equal(pages, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(chunks_are_added_together_by_the_last),
        TEST(a_chunk_without_those_before_it_is_refused),
        TEST(a_wrong_row_is_named_with_its_field_and_nothing_is_taken),
        TEST(registered_ids_are_refused_by_name_or_left_out),
        TEST(clusters_are_joined_and_missing_ones_named),
        TEST(so_many_imports_wait_at_once),
        TEST(an_import_over_the_limit_is_refused),
        TEST(text_over_the_limit_is_refused_and_nothing_of_it_taken),
        TEST(a_page_ends_early_when_its_rows_are_large),
        TEST(imports_are_forgotten_when_nobody_goes_on_with_them),
    };
    return RUN_ON_BOTH("import_methods", tests);
}
