// "client import" and "client export", as main runs them, against a real RPC server that keeps what it gets.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/import_send.h"
#include "rig.h"
#include "util/secret.h"

enum { MAX_IDS = 8192 };

static tob_rpc_server *server;
static char dir[] = "/tmp/tob-import-XXXXXX";

// What the server has and does; the handlers run on its threads.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char ids[MAX_IDS][24]; // registered
    uint8_t hashes[MAX_IDS][TOB_SHA256_BYTES];
    size_t count;
    size_t staged;
    unsigned chunks;
    uint64_t import_id;
    uint32_t sequence;
    bool keys_were_there;  // before the commit
    tob_error fail_commit; // TOB_OK: it does not fail
    bool take_name;        // of the file of keys, at the commit
    char late[24];         // registered by somebody else between the list and the import
} has;

static char keys_path[PATH_MAX];

static bool is_registered(const char *id) {
    for (size_t i = 0; i < has.count; i++) {
        if (strcmp(has.ids[i], id) == 0) {
            return true;
        }
    }
    return false;
}

static void stage(const Tobogganing__V1__ImportClientsRequest *request, char **skipped,
                  size_t *skipped_count) {
    for (size_t i = 0; i < request->n_clients; i++) {
        const Tobogganing__V1__ImportedClient *client = request->clients[i];
        if (is_registered(client->client_id)) {
            skipped[(*skipped_count)++] = client->client_id;
            continue;
        }
        snprintf(has.ids[has.count + has.staged], sizeof(has.ids[0]), "%s", client->client_id);
        assert_int_equal(client->key_sha256.len, TOB_SHA256_BYTES);
        memcpy(has.hashes[has.count + has.staged], client->key_sha256.data, TOB_SHA256_BYTES);
        has.staged++;
    }
}

static void on_import(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__ImportClientsRequest *request =
        (const Tobogganing__V1__ImportClientsRequest *)message;
    Tobogganing__V1__ImportClientsResponse response = TOBOGGANING__V1__IMPORT_CLIENTS_RESPONSE__INIT;
    char *skipped[TOB_IMPORT_CHUNK_ROWS];
    if (!is_admin(call)) {
        return;
    }
    pthread_mutex_lock(&lock);
    bool fits = request->sequence == 1 ||
                (request->import_id == has.import_id && request->sequence == has.sequence + 1);
    has.staged = request->sequence == 1 ? 0 : has.staged;
    has.import_id = request->import_id;
    has.sequence = request->sequence;
    has.chunks++;
    if (!fits) {
        tob_rpc_fail(call, TOB_PRECONDITION, 0, "sequence: the chunks before are not here");
    } else if (request->commit && has.fail_commit) {
        has.keys_were_there = access(keys_path, R_OK) == 0;
        tob_rpc_fail(call, has.fail_commit, 1500, "not now");
    } else {
        stage(request, skipped, &response.n_skipped);
        response.staged = (uint32_t)has.staged;
        response.skipped = skipped;
        if (request->commit) {
            has.keys_were_there = access(keys_path, R_OK) == 0;
            if (has.take_name) {
                assert_int_equal(mkdir(keys_path, 0700), 0);
            }
            response.added = (uint32_t)has.staged;
            has.count += has.staged;
        }
        tob_rpc_reply(call, &response.base);
    }
    pthread_mutex_unlock(&lock);
}

// All that are registered, on one page; the odd ones are revoked when `name` says so.
static void on_list(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    Tobogganing__V1__ListClientsResponse response = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    static Tobogganing__V1__Client clients[MAX_IDS];
    static Tobogganing__V1__Client *pointers[MAX_IDS];
    if (!is_admin(call)) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < has.count; i++) {
        tobogganing__v1__client__init(&clients[i]);
        clients[i].client_id = has.ids[i];
        clients[i].name = (char *)"a \"name\", quoted";
        clients[i].type = (char *)"native";
        clients[i].revoked_unix_ms = strcmp(has.ids[i], "revoked") == 0 ? 1700000000000 : 0;
        if (request->with_key_hashes) {
            clients[i].key_sha256 = (ProtobufCBinaryData){TOB_SHA256_BYTES, has.hashes[i]};
        }
        pointers[i] = &clients[i];
    }
    response.clients = pointers;
    response.n_clients = has.count;
    tob_rpc_reply(call, &response.base);
    if (*has.late) {
        snprintf(has.ids[has.count++], sizeof(has.ids[0]), "%s", has.late);
        has.late[0] = 0;
    }
    pthread_mutex_unlock(&lock);
}

static int start(void **state) {
    (void)state;
    static const rig_method methods[] = {
        {&tobogganing__v1__registry__descriptor, "ImportClients", on_import},
        {&tobogganing__v1__registry__descriptor, "ListClients", on_list},
    };
    server = rig_start(methods, sizeof(methods) / sizeof(methods[0]));
    assert_non_null(mkdtemp(dir));
    snprintf(keys_path, sizeof(keys_path), "%s/keys.csv", dir);
    return 0;
}

static int stop(void **state) {
    (void)state;
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    unlink(keys_path);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static int fresh(void **state) {
    (void)state;
    rig_use(server);
    memset(&has, 0, sizeof(has));
    unlink(keys_path);
    return 0;
}

// "client import FILE OPTIONS" for a file with that content.
static int import(const char *content, const char *options) {
    char path[PATH_MAX], words[PATH_MAX + 256];
    snprintf(path, sizeof(path), "%s/clients.csv", dir);
    FILE *file = fopen(path, "w");
    fputs(content, file);
    fclose(file);
    snprintf(words, sizeof(words), "client import %s %s", path, options);
    int status = run(words);
    unlink(path);
    return status;
}

static const char *keys_option(const char *more) {
    static char words[PATH_MAX + 64];
    snprintf(words, sizeof(words), "--keys-out %s %s", keys_path, more);
    return words;
}

static size_t read_keys(char *to, size_t room) {
    FILE *file = fopen(keys_path, "r");
    size_t n = file ? fread(to, 1, room - 1, file) : 0;
    to[n] = 0;
    if (file) {
        fclose(file);
    }
    return n;
}

static void keys_are_made_written_with_mode_0600_and_are_there_before_the_commit(void **state) {
    (void)state;
    char keys[1024], line[128];
    struct stat st;
    uint8_t hash[TOB_SHA256_BYTES];
    assert_int_equal(import("client_id,name\nb,B\na,A\n", keys_option("")), 0);
    assert_string_equal(out, "2 clients were added\n");
    assert_string_equal(err, "");
    assert_true(has.keys_were_there);
    assert_int_equal(stat(keys_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    read_keys(keys, sizeof(keys));
    assert_int_equal(strncmp(keys, "client_id,api_key\na,tobk_", 25), 0);
    assert_int_equal(sscanf(keys, "client_id,api_key\na,%127s", line), 1);
    tob_sha256(line, strlen(line), hash);
    assert_string_equal(has.ids[0], "a");
    assert_memory_equal(has.hashes[0], hash, sizeof(hash));
}

static void keys_to_make_need_a_place_for_them(void **state) {
    (void)state;
    assert_int_equal(import("client_id\na\n", ""), 2);
    assert_contains(err, "option --keys-out: is needed: 1 clients have no key in the file");
    assert_int_equal(has.chunks, 0);
    assert_int_equal(import("client_id,api_key\na,tobk_0123456789abcdef\n", ""), 0);
    assert_int_equal(import("client_id\nb\n", "--keys-out - --json"), 2);
    assert_int_equal(import("client_id\nb\n", "--keys-out -"), 0);
    assert_int_equal(strncmp(out, "client_id,api_key\nb,tobk_", 25), 0);
    assert_string_equal(err, "1 clients were added\n"); // stdout is for the keys alone
}

static void a_file_of_keys_is_never_overwritten_unless_forced(void **state) {
    (void)state;
    char keys[1024];
    assert_int_equal(import("client_id\na\n", keys_option("")), 0);
    assert_int_equal(import("client_id\nb\n", keys_option("")), 1);
    assert_contains(err, "keys.csv: exists; give another name, or --force to replace it");
    assert_int_equal(has.count, 1);
    read_keys(keys, sizeof(keys));
    assert_contains(keys, "\na,tobk_");
    has.fail_commit = TOB_ALREADY_EXISTS;
    assert_int_equal(import("client_id\nb\n", keys_option("--force")), 1);
    read_keys(keys, sizeof(keys));
    assert_contains(keys, "\na,tobk_"); // a failed import leaves it as it was
    has.fail_commit = TOB_OK;
    assert_int_equal(import("client_id\nb\n", keys_option("--force")), 0);
    read_keys(keys, sizeof(keys));
    assert_contains(keys, "\nb,tobk_");
}

static void a_refused_import_leaves_no_keys_behind(void **state) {
    (void)state;
    has.fail_commit = TOB_ALREADY_EXISTS;
    assert_int_equal(import("client_id\na\n", keys_option("")), 1);
    assert_string_equal(err, "tobogganctl: ALREADY_EXISTS: not now (try again in 2 s)\n");
    assert_true(has.keys_were_there);
    assert_int_equal(access(keys_path, F_OK), -1);
    assert_int_equal(import("client_id\na\n", "--keys-out -"), 1);
    assert_contains(err, "keys that were printed are good for nothing");
}

// The database went away at the commit: ingestd can't say on which side of it.
static void keys_of_an_import_that_may_have_been_carried_out_stay(void **state) {
    (void)state;
    char keys[1024];
    has.fail_commit = TOB_UNAVAILABLE;
    assert_int_equal(import("client_id\na\n", keys_option("")), 1);
    assert_contains(err, "it may have been carried out all the same: see client list; the keys are in ");
    read_keys(keys, sizeof(keys));
    assert_contains(keys, "\na,tobk_");
    assert_int_equal(import("client_id\na\n", "--keys-out -"), 1);
    assert_contains(err, "it may have been carried out all the same: see client list\n");
}

static void keys_stay_when_their_file_can_not_get_its_name_any_more(void **state) {
    (void)state;
    has.take_name = true;
    assert_int_equal(import("client_id\na\n", keys_option("--force")), 1);
    assert_int_equal(has.count, 1);
    assert_contains(err, "the clients were added, and their keys are in ");
    char *path = strstr(err, "keys are in ") + strlen("keys are in ");
    path[strcspn(path, "\n")] = 0;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(keys_path), 0);
}

static void what_is_no_file_is_not_replaced_and_nothing_is_sent(void **state) {
    (void)state;
    assert_int_equal(mkdir(keys_path, 0700), 0);
    assert_int_equal(import("client_id\na\n", keys_option("--force")), 1);
    assert_contains(err, "keys.csv: Is a directory");
    assert_int_equal(rmdir(keys_path), 0);
    assert_int_equal(mkfifo(keys_path, 0600), 0);
    assert_int_equal(import("client_id\na\n", keys_option("--force")), 1);
    assert_contains(err, "keys.csv: is not a regular file");
    assert_int_equal(has.chunks, 0);
}

static void many_go_in_chunks_and_the_last_one_commits(void **state) {
    (void)state;
    size_t n = 2 * TOB_IMPORT_CHUNK_ROWS + 1, at = 0;
    char *content = malloc(64 + n * 32);
    at = (size_t)sprintf(content, "client_id,api_key\n");
    for (size_t i = 0; i < n; i++) {
        at += (size_t)sprintf(content + at, "c%05zu,0123456789abcdef\n", i);
    }
    assert_int_equal(import(content, "--json"), 0);
    assert_contains(out, "\"added\": 4001");
    assert_int_equal(has.chunks, 3);
    assert_int_equal(has.count, n);
    free(content);
}

static void those_that_are_registered_are_left_out_when_told_and_get_no_key(void **state) {
    (void)state;
    char keys[1024];
    assert_int_equal(import("client_id\na\n", keys_option("")), 0);
    assert_int_equal(import("client_id\na\nb\nlate\n",
                            keys_option("--force --skip-existing --dry-run --json")),
                     0);
    assert_contains(out, "\"added\": 2");
    assert_contains(out, "\"dry_run\": true");
    assert_int_equal(has.count, 1);
    snprintf(has.late, sizeof(has.late), "late");
    assert_int_equal(import("client_id\na\nb\nlate\n", keys_option("--force --skip-existing")), 0);
    assert_string_equal(out, "1 clients were added, 2 are registered and were left out\n");
    read_keys(keys, sizeof(keys));
    assert_contains(keys, "\nb,tobk_");
    assert_null(strstr(keys, "\na,"));
    assert_null(strstr(keys, "\nlate,")); // it came between the list and the import
    assert_int_equal(import("client_id\na\nb\n", keys_option("--force --skip-existing")), 0);
    assert_string_equal(out, "0 clients were added, 2 are registered and were left out\n");
}

static void a_dry_run_tells_who_is_registered_and_sends_nothing(void **state) {
    (void)state;
    assert_int_equal(import("client_id\na\n", keys_option("")), 0);
    unsigned chunks = has.chunks;
    assert_int_equal(import("client_id\nb\na\n", "--dry-run"), 1);
    assert_string_equal(err,
                        "tobogganctl: a (line 3) is registered\n"
                        "tobogganctl: 1 of the clients are registered; --skip-existing leaves them out\n");
    assert_int_equal(import("client_id\nb\n", "--dry-run"), 0);
    assert_string_equal(out, "1 clients would be added\n");
    assert_int_equal(has.chunks, chunks);
}

static void a_file_with_mistakes_is_not_sent(void **state) {
    (void)state;
    assert_int_equal(import("client_id\na b\n", keys_option("")), 1);
    assert_contains(err, "clients.csv:2:1: client_id: must be");
    assert_contains(err, "tobogganctl: nothing was sent\n");
    assert_int_equal(has.chunks, 0);
    assert_int_equal(access(keys_path, F_OK), -1);
    assert_int_equal(run("client import /nowhere/x.csv"), 1);
    assert_string_equal(err, "tobogganctl: /nowhere/x.csv: No such file or directory\n");
}

static void what_is_exported_is_imported_again_without_those_revoked(void **state) {
    (void)state;
    static const char content[] =
        "client_id,api_key\na,tobk_0123456789abcdef\nrevoked,tobk_0123456789abcdef\n";
    char *exported = NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    assert_int_equal(import(content, ""), 0);
    memcpy(hash, has.hashes[0], sizeof(hash));
    assert_int_equal(run("client export"), 0);
    assert_string_equal(out, "client_id,name,type,cluster_id,public_key,location\n"
                             "a,\"a \"\"name\"\", quoted\",native,,,\n");
    assert_string_equal(err, "tobogganctl: 1 revoked clients are left out\n");
    assert_int_equal(run("client export --with-key-hashes"), 0);
    exported = strdup(out);
    fresh(NULL);
    assert_int_equal(import(exported, ""), 0);
    free(exported);
    assert_int_equal(has.count, 1);
    assert_memory_equal(has.hashes[0], hash, sizeof(hash));
    assert_int_equal(run("client export --with-key-hashes --json"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_int_equal(strlen(json_string_value(json_object_get(json_array_get(json, 0), "key_sha256"))), 64);
    json_decref(json);
    fresh(NULL);
    assert_int_equal(run("client export --json"), 0);
    json = json_loads(out, 0, NULL);
    assert_true(json_is_array(json));
    json_decref(json);
}

#define FRESH(name) cmocka_unit_test_setup(name, fresh)

int main(void) {
    const struct CMUnitTest tests[] = {
        FRESH(keys_are_made_written_with_mode_0600_and_are_there_before_the_commit),
        FRESH(keys_to_make_need_a_place_for_them),
        FRESH(a_file_of_keys_is_never_overwritten_unless_forced),
        FRESH(a_refused_import_leaves_no_keys_behind),
        FRESH(keys_of_an_import_that_may_have_been_carried_out_stay),
        FRESH(keys_stay_when_their_file_can_not_get_its_name_any_more),
        FRESH(what_is_no_file_is_not_replaced_and_nothing_is_sent),
        FRESH(many_go_in_chunks_and_the_last_one_commits),
        FRESH(those_that_are_registered_are_left_out_when_told_and_get_no_key),
        FRESH(a_dry_run_tells_who_is_registered_and_sends_nothing),
        FRESH(a_file_with_mistakes_is_not_sent),
        FRESH(what_is_exported_is_imported_again_without_those_revoked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
