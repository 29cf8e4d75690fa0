// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ingestd/registry.h"

typedef struct fixture {
    char dir[64];
    char path[96];
    char url[112];
    tob_registry *registry;
} fixture;

static tob_registry *open_ok(const fixture *f) {
    tob_registry *registry = NULL;
    tob_registry_problem problem = {""};
    tob_error err = tob_registry_open(f->url, &registry, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    return registry;
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "%s/tob-registry-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    snprintf(f->path, sizeof(f->path), "%s/registry.db", f->dir);
    snprintf(f->url, sizeof(f->url), "sqlite:%s", f->path);
    f->registry = open_ok(f);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
        unlink(path);
    }
    int failed = rmdir(f->dir);
    free(f);
    return failed;
}

static tob_error add_cluster(fixture *f, const char *id) {
    return tob_registry_add_cluster(f->registry, &(tob_registry_cluster){.id = id,
                                                                         .name = "name of it",
                                                                         .region = "eu",
                                                                         .datacenter = "fra1",
                                                                         .headend_url = "https://h",
                                                                         .created_unix_ms = 1});
}

static tob_error add_client(fixture *f, const char *id, const char *cluster_id) {
    tob_registry_client client = {.id = id,
                                  .name = "Ann's laptop",
                                  .type = "docker",
                                  .cluster_id = cluster_id,
                                  .created_unix_ms = UINT64_C(1700000000123)};
    memset(client.key_hash, 0, sizeof(client.key_hash));
    client.key_hash[0] = 0xab;
    client.key_hash[31] = 0xcd;
    return tob_registry_add_client(f->registry, &client);
}

static tob_error add_headend(fixture *f, const char *id, const char *cluster_id) {
    return tob_registry_add_headend(f->registry, &(tob_registry_headend){.id = id,
                                                                         .name = "edge",
                                                                         .cluster_id = cluster_id,
                                                                         .region = "not this one",
                                                                         .datacenter = "",
                                                                         .created_unix_ms = 3});
}

typedef struct ids {
    char text[512];
    size_t count;
    tob_error refuse;
} ids;

static tob_error note(ids *i, const char *id) {
    if (i->refuse) {
        return i->refuse;
    }
    strncat(i->text, id, sizeof(i->text) - strlen(i->text) - 1);
    strncat(i->text, " ", sizeof(i->text) - strlen(i->text) - 1);
    i->count++;
    return TOB_OK;
}

static tob_error note_cluster(void *user, const tob_registry_cluster *cluster) {
    assert_string_equal(cluster->name, "name of it");
    assert_string_equal(cluster->region, "eu");
    assert_string_equal(cluster->datacenter, "fra1");
    assert_string_equal(cluster->headend_url, "https://h");
    assert_int_equal(cluster->created_unix_ms, 1);
    return note(user, cluster->id);
}

static tob_error note_client(void *user, const tob_registry_client *client) {
    assert_string_equal(client->name, "Ann's laptop");
    assert_string_equal(client->type, "docker");
    assert_int_equal(client->created_unix_ms, UINT64_C(1700000000123));
    assert_int_equal(client->key_hash[0], 0xab);
    assert_int_equal(client->key_hash[31], 0xcd);
    return note(user, client->id);
}

static tob_error note_headend(void *user, const tob_registry_headend *headend) {
    assert_string_equal(headend->region, headend->cluster_id[0] ? "eu" : "");
    assert_string_equal(headend->datacenter, headend->cluster_id[0] ? "fra1" : "");
    return note(user, headend->id);
}

static void what_was_added_is_listed_in_order_of_ids_a_page_at_a_time(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    static const char *const names[] = {"b", "a", "B", "c-10", "c-9", "_", "z"};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(add_client(f, names[i], i % 2 ? "k" : ""), TOB_OK);
        assert_int_equal(add_headend(f, names[i], i % 2 ? "k" : ""), TOB_OK);
    }
    ids all = {.count = 0};
    assert_int_equal(tob_registry_list_clients(f->registry, "", UINT32_MAX, note_client, &all), TOB_OK);
    assert_string_equal(all.text, "B _ a b c-10 c-9 z ");
    ids page = {.count = 0};
    assert_int_equal(tob_registry_list_clients(f->registry, "a", 2, note_client, &page), TOB_OK);
    assert_string_equal(page.text, "b c-10 ");
    ids headends = {.count = 0};
    assert_int_equal(tob_registry_list_headends(f->registry, "b", 10, note_headend, &headends), TOB_OK);
    assert_string_equal(headends.text, "c-10 c-9 z ");
    ids clusters = {.count = 0};
    assert_int_equal(tob_registry_list_clusters(f->registry, "", 10, note_cluster, &clusters), TOB_OK);
    assert_string_equal(clusters.text, "k ");
    ids none = {.count = 0};
    assert_int_equal(tob_registry_list_clients(f->registry, "z", 10, note_client, &none), TOB_OK);
    assert_int_equal(none.count, 0);
}

static void what_the_reader_refuses_is_returned_and_the_next_reading_begins_anew(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    ids i = {.refuse = TOB_TOO_LARGE};
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &i), TOB_TOO_LARGE);
    i.refuse = TOB_OK;
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &i), TOB_OK);
    assert_int_equal(i.count, 1);
}

static void an_id_that_is_taken_is_refused(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        tob_error expected = i ? TOB_ALREADY_EXISTS : TOB_OK;
        assert_int_equal(add_cluster(f, "x"), expected);
        assert_int_equal(add_client(f, "x", ""), expected);
        assert_int_equal(add_headend(f, "x", ""), expected);
    }
}

static void a_cluster_that_does_not_exist_is_refused(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "x", "nowhere"), TOB_NOT_FOUND);
    assert_int_equal(add_headend(f, "x", "nowhere"), TOB_NOT_FOUND);
    ids none = {.count = 0};
    assert_int_equal(tob_registry_get_client(f->registry, "x", note_client, &none), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_get_headend(f->registry, "x", note_headend, &none), TOB_NOT_FOUND);
}

static tob_error see_nothing(void *user, const tob_registry_client *client) {
    (void)user, (void)client;
    return TOB_OK;
}

static tob_error see_no_headend(void *user, const tob_registry_headend *headend) {
    (void)user, (void)headend;
    return TOB_OK;
}

static void what_is_deleted_is_gone_after_a_restart_too_and_its_id_is_free(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(add_client(f, "y", ""), TOB_OK);
    assert_int_equal(tob_registry_add_headend(
                         f->registry, &(tob_registry_headend){.id = "x", .name = "x", .cluster_id = ""}),
                     TOB_OK);
    assert_int_equal(tob_registry_revoke_client(f->registry, "x", 1000), TOB_OK);
    assert_int_equal(tob_registry_delete_client(f->registry, "x"), TOB_OK);
    assert_int_equal(tob_registry_delete_client(f->registry, "x"), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_get_headend(f->registry, "x", see_no_headend, NULL), TOB_OK);
    assert_int_equal(tob_registry_delete_headend(f->registry, "x"), TOB_OK);
    assert_int_equal(tob_registry_delete_headend(f->registry, "x"), TOB_NOT_FOUND);
    tob_registry_close(f->registry);
    f->registry = open_ok(f);
    assert_int_equal(tob_registry_get_client(f->registry, "x", see_nothing, NULL), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_get_client(f->registry, "y", see_nothing, NULL), TOB_OK);
    assert_int_equal(tob_registry_get_headend(f->registry, "x", see_no_headend, NULL), TOB_NOT_FOUND);
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
}

static tob_error see_revoked(void *user, const tob_registry_client *client) {
    *(uint64_t *)user = client->revoked_unix_ms;
    return TOB_OK;
}

static void revoking_is_kept_with_its_first_time(void **state) {
    fixture *f = *state;
    uint64_t revoked = 77;
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(tob_registry_get_client(f->registry, "x", see_revoked, &revoked), TOB_OK);
    assert_int_equal(revoked, 0);
    assert_int_equal(tob_registry_revoke_client(f->registry, "x", 1000), TOB_OK);
    assert_int_equal(tob_registry_revoke_client(f->registry, "x", 2000), TOB_OK);
    assert_int_equal(tob_registry_get_client(f->registry, "x", see_revoked, &revoked), TOB_OK);
    assert_int_equal(revoked, 1000);
    assert_int_equal(tob_registry_revoke_client(f->registry, "y", 1000), TOB_NOT_FOUND);
}

static void everything_is_there_after_a_restart_and_is_loaded_into_the_directory(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "a", "k"), TOB_OK);
    assert_int_equal(add_client(f, "b", ""), TOB_OK);
    assert_int_equal(add_headend(f, "h", "k"), TOB_OK);
    assert_int_equal(tob_registry_revoke_client(f->registry, "b", 1000), TOB_OK);
    tob_registry_close(f->registry);
    f->registry = open_ok(f);
    tob_directory *directory = NULL;
    assert_int_equal(tob_directory_new(&directory), TOB_OK);
    assert_int_equal(tob_registry_load(f->registry, directory), TOB_OK);
    assert_int_equal(tob_directory_clusters(directory), 1);
    assert_int_equal(tob_directory_clients(directory), 1);
    assert_int_equal(tob_directory_headends(directory), 1);
    tob_directory_read_lock(directory);
    const tob_directory_client *a = tob_directory_find_client(directory, "a", 1);
    assert_string_equal(a->name, "Ann's laptop");
    assert_string_equal(a->type, "docker");
    assert_int_equal(a->key_hash[0], 0xab);
    assert_int_equal(a->key_hash[31], 0xcd);
    assert_true(tob_directory_find_client(directory, "b", 1)->revoked);
    const tob_directory_headend *h = tob_directory_find_headend(directory, "h", 1);
    assert_string_equal(h->region, "eu");
    assert_string_equal(h->datacenter, "fra1");
    tob_directory_read_unlock(directory);
    tob_directory_free(directory);
}

static void what_a_killed_process_added_is_there(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    f->registry = NULL;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        f->registry = open_ok(f);
        if (add_client(f, "x", "")) {
            _exit(1);
        }
        _exit(0); // without closing
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    f->registry = open_ok(f);
    ids i = {.count = 0};
    assert_int_equal(tob_registry_get_client(f->registry, "x", note_client, &i), TOB_OK);
}

static void the_file_is_for_its_owner_only(void **state) {
    fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char wal[128];
    snprintf(wal, sizeof(wal), "%s-wal", f->path);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_second_process_is_told_that_the_first_has_it(void **state) {
    fixture *f = *state;
    tob_registry *second = NULL;
    tob_registry_problem problem = {""};
    assert_int_equal(tob_registry_open(f->url, &second, &problem), TOB_BUSY);
    assert_null(second);
    assert_non_null(strstr(problem.text, f->path));
    assert_non_null(strstr(problem.text, "another process has it open"));
    assert_int_equal(add_client(f, "x", ""), TOB_OK); // the first is not disturbed
}

static void a_newer_schema_is_refused_as_such(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    f->registry = NULL;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "INSERT INTO schema_version VALUES (1000, 0)", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    tob_registry_problem problem = {""};
    assert_int_equal(tob_registry_open(f->url, &f->registry, &problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "version 1000"));
    assert_non_null(strstr(problem.text, "newer version"));
}

static void a_file_that_is_no_database_is_refused(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    f->registry = NULL;
    FILE *file = fopen(f->path, "w");
    for (int i = 0; i < 1000; i++) {
        fputs("this is not a database\n", file);
    }
    fclose(file);
    tob_registry_problem problem = {""};
    assert_int_equal(tob_registry_open(f->url, &f->registry, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, f->path));
}

static void urls_of_other_kinds_are_refused_without_repeating_them(void **state) {
    (void)state;
    static const char *const urls[] = {"postgresql://u:secret@h/db", "sqlite:", "", "secret.db", "SQLITE:x"};
    for (size_t i = 0; i < 5; i++) {
        tob_registry *registry = NULL;
        tob_registry_problem problem = {""};
        assert_int_equal(tob_registry_open(urls[i], &registry, &problem), TOB_INVALID);
        assert_non_null(strstr(problem.text, "sqlite:PATH"));
        assert_null(strstr(problem.text, "secret"));
    }
    tob_registry *registry = NULL;
    tob_registry_problem problem = {""};
    assert_int_equal(tob_registry_open("sqlite:/nonexistent/registry.db", &registry, &problem), TOB_IO);
    assert_non_null(strstr(problem.text, "/nonexistent/registry.db: No such file"));
}

static void ids_are_data_and_never_sql(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "x'; DROP TABLE clients; --", ""), TOB_OK);
    ids i = {.count = 0};
    assert_int_equal(tob_registry_get_client(f->registry, "x'; DROP TABLE clients; --", note_client, &i),
                     TOB_OK);
    assert_int_equal(i.count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_added_is_listed_in_order_of_ids_a_page_at_a_time),
        TEST(what_the_reader_refuses_is_returned_and_the_next_reading_begins_anew),
        TEST(an_id_that_is_taken_is_refused),
        TEST(a_cluster_that_does_not_exist_is_refused),
        TEST(revoking_is_kept_with_its_first_time),
        TEST(what_is_deleted_is_gone_after_a_restart_too_and_its_id_is_free),
        TEST(everything_is_there_after_a_restart_and_is_loaded_into_the_directory),
        TEST(what_a_killed_process_added_is_there),
        TEST(the_file_is_for_its_owner_only),
        TEST(a_second_process_is_told_that_the_first_has_it),
        TEST(a_newer_schema_is_refused_as_such),
        TEST(a_file_that_is_no_database_is_refused),
        TEST(urls_of_other_kinds_are_refused_without_repeating_them),
        TEST(ids_are_data_and_never_sql),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
