#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ingestd/registry_migrations.h"
#include "registry_rig.h"

// What is SQLite's alone: a file, which one process has, and which older versions of the program may have made.

static const char *path_of(const fixture *f) {
    return f->url + strlen("sqlite:");
}

static void execute(const char *path, const char *statements) {
    sqlite3 *db = NULL;
    char *problem = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, statements, NULL, NULL, &problem) != SQLITE_OK) {
        fail_msg("%s", problem);
    }
    sqlite3_close(db);
}

// A registry as version 0.1.0 left it, statement for statement, with rows of each kind.
static const char schema_1[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE schema_version ("
    "  version INTEGER NOT NULL PRIMARY KEY, applied_unix_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE clusters ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  name TEXT NOT NULL,"
    "  region TEXT NOT NULL,"
    "  datacenter TEXT NOT NULL,"
    "  headend_url TEXT NOT NULL,"
    "  created_unix_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE clients ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  name TEXT NOT NULL,"
    "  type TEXT NOT NULL CHECK (type IN ('docker', 'native', 'mobile')),"
    "  cluster_id TEXT REFERENCES clusters (id),"
    "  key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),"
    "  created_unix_ms INTEGER NOT NULL,"
    "  revoked_unix_ms INTEGER"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX clients_by_cluster ON clients (cluster_id);"
    "CREATE TABLE headends ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  name TEXT NOT NULL,"
    "  cluster_id TEXT REFERENCES clusters (id),"
    "  created_unix_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX headends_by_cluster ON headends (cluster_id);"
    "INSERT INTO schema_version VALUES (1, 1690000000000);"
    "INSERT INTO clusters VALUES ('k', 'Frankfurt', 'eu', 'fra1', 'https://h', 1690000000001);"
    "INSERT INTO clients VALUES "
    "  ('a', 'Ann''s laptop', 'native', 'k', CAST(zeroblob(31) || x'aa' AS BLOB), 1690000000002, NULL),"
    "  ('b', 'b', 'docker', NULL, CAST(zeroblob(31) || x'bb' AS BLOB), 1690000000003, NULL),"
    "  ('c', 'c', 'mobile', 'k', CAST(zeroblob(31) || x'cc' AS BLOB), 1690000000004, 1690000000005);"
    "INSERT INTO headends VALUES ('h', 'edge', 'k', 1690000000006), ('i', 'alone', NULL, 1690000000007);";

static void make_schema_1(fixture *f) {
    tob_registry_close(f->registry);
    f->registry = NULL;
    unlink(path_of(f));
    execute(path_of(f), schema_1);
}

static tob_error see_headend(void *user, const tob_registry_headend *h) {
    words *w = user;
    char word[128];
    snprintf(word, sizeof(word), "%s/%s/%s/%s/%llu/%llu/%llu", h->id, h->name, h->cluster_id, h->region,
             (unsigned long long)h->created_unix_ms, (unsigned long long)h->revoked_unix_ms,
             (unsigned long long)h->tokens_not_before_unix_s);
    return note(w, word);
}

static void a_registry_of_the_first_schema_comes_up_with_everything_in_it(void **state) {
    fixture *f = *state;
    client_copy copy;
    cluster_copy cluster;
    words clients = {.count = 0}, changed = {.count = 0}, headends = {.count = 0};
    uint64_t change = 0, forgotten = 1;
    make_schema_1(f);
    for (int i = 0; i < 2; i++) { // the second time there is nothing to do
        reopen(f);
        tob_registry_client a = get_client(f, "a", &copy);
        assert_string_equal(a.name, "Ann's laptop");
        assert_string_equal(a.type, "native");
        assert_string_equal(a.cluster_id, "k");
        assert_string_equal(a.public_key, "");
        assert_string_equal(a.location, "");
        assert_int_equal(a.key_hash[0], 0);
        assert_int_equal(a.key_hash[31], 0xaa);
        assert_int_equal(a.created_unix_ms, UINT64_C(1690000000002));
        assert_int_equal(a.key_created_unix_ms, a.created_unix_ms);
        assert_int_equal(a.key_generation, 1);
        assert_int_equal(a.revoked_unix_ms, 0);
        assert_int_equal(a.previous_key_expires_unix_ms, 0);
        assert_int_equal(get_client(f, "c", &copy).revoked_unix_ms, UINT64_C(1690000000005));
        tob_registry_cluster k = get_cluster(f, "k", &cluster);
        assert_string_equal(k.name, "Frankfurt");
        assert_string_equal(k.headend_url, "https://h");
        assert_int_equal(k.registered_clients, 1); // c is revoked
        assert_int_equal(k.revoked_unix_ms + k.heartbeat_unix_ms + k.client_count, 0);
    }
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &clients), TOB_OK);
    assert_string_equal(clients.text, "a b c ");
    assert_int_equal(tob_registry_changed_clients(f->registry, 0, note_client, &changed), TOB_OK);
    assert_int_equal(changed.count, 3);
    assert_int_equal(tob_registry_list_headends(f->registry, "", 10, see_headend, &headends), TOB_OK);
    assert_string_equal(headends.text, "h/edge/k/eu/1690000000006/0/0 i/alone///1690000000007/0/0 ");
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(change, 1);
    assert_int_equal(forgotten, 0);
    // It is of use.
    assert_int_equal(add_client(f, "d", "k"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", false)), TOB_OK);
    assert_int_equal(get_cluster(f, "k", &cluster).registered_clients, 1);
}

static void a_step_that_fails_leaves_the_older_schema_as_it_was(void **state) {
    fixture *f = *state;
    tob_sql_problem_text problem = {""};
    make_schema_1(f);
    execute(path_of(f), "CREATE TABLE audit (mine TEXT)"); // in the way of schema 2
    assert_int_not_equal(tob_registry_open(f->url, NULL, &f->registry, &problem), TOB_OK);
    assert_non_null(strstr(problem.text, "audit"));
    execute(path_of(f), "DROP TABLE audit; INSERT INTO clusters VALUES ('l', 'l', '', '', '', 1)");
    reopen(f);
    words clusters = {.count = 0};
    assert_int_equal(tob_registry_list_clusters(f->registry, "", 10, note_cluster, &clusters), TOB_OK);
    assert_string_equal(clusters.text, "k l ");
}

static void what_a_killed_process_added_is_there(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    f->registry = NULL;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        f->registry = open_registry(f->url);
        _exit(add_client(f, "x", "") ? 1 : 0); // without closing
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    f->registry = open_registry(f->url);
    words w = {.count = 0};
    assert_int_equal(tob_registry_get_client(f->registry, "x", note_client, &w), TOB_OK);
}

static void the_file_is_for_its_owner_only(void **state) {
    fixture *f = *state;
    struct stat st;
    char wal[400];
    assert_int_equal(stat(path_of(f), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(wal, sizeof(wal), "%s-wal", path_of(f));
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_second_process_is_told_that_the_first_has_it(void **state) {
    fixture *f = *state;
    tob_registry *second = NULL;
    tob_sql_problem_text problem = {""};
    assert_int_equal(tob_registry_open(f->url, NULL, &second, &problem), TOB_BUSY);
    assert_null(second);
    assert_non_null(strstr(problem.text, path_of(f)));
    assert_non_null(strstr(problem.text, "another process has it open"));
    assert_int_equal(add_client(f, "x", ""), TOB_OK); // the first is not disturbed
}

static void a_file_that_is_no_database_is_refused(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    f->registry = NULL;
    FILE *file = fopen(path_of(f), "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++) {
        fputs("this is not a database\n", file);
    }
    fclose(file);
    tob_sql_problem_text problem = {""};
    assert_int_equal(tob_registry_open(f->url, NULL, &f->registry, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, path_of(f)));
}

static void urls_of_other_kinds_are_refused_without_repeating_them(void **state) {
    (void)state;
    static const char *const urls[] = {"mysql://u:secret@h/db", "sqlite:", "", "secret.db", "SQLITE:x"};
    for (size_t i = 0; i < 5; i++) {
        tob_registry *registry = NULL;
        tob_sql_problem_text problem = {""};
        assert_int_equal(tob_registry_open(urls[i], NULL, &registry, &problem), TOB_INVALID);
        assert_non_null(strstr(problem.text, "sqlite:PATH"));
        assert_null(strstr(problem.text, "secret"));
        assert_null(registry);
    }
}

static void the_engines_have_the_same_steps(void **state) {
    (void)state;
    assert_true(tob_registry_migration_count >= 2);
    for (size_t i = 0; i < tob_registry_migration_count; i++) {
        assert_non_null(strstr(tob_registry_migrations[i].sqlite, "CREATE TABLE"));
        assert_non_null(strstr(tob_registry_migrations[i].postgresql, "CREATE TABLE"));
    }
}

#define ON_SQLITE(function)                                                                                  \
    {                                                                                                        \
        .name = #function, .test_func = (function), .setup_func = set_up, .teardown_func = tear_down,        \
        .initial_state = engine                                                                              \
    }

int main(void) {
    static char engine[] = "sqlite";
    const struct CMUnitTest tests[] = {
        ON_SQLITE(a_registry_of_the_first_schema_comes_up_with_everything_in_it),
        ON_SQLITE(a_step_that_fails_leaves_the_older_schema_as_it_was),
        ON_SQLITE(what_a_killed_process_added_is_there),
        ON_SQLITE(the_file_is_for_its_owner_only),
        ON_SQLITE(a_second_process_is_told_that_the_first_has_it),
        ON_SQLITE(a_file_that_is_no_database_is_refused),
        ON_SQLITE(urls_of_other_kinds_are_refused_without_repeating_them),
        ON_SQLITE(the_engines_have_the_same_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
