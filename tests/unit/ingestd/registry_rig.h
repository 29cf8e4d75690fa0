// What the tests of the registry share: each runs on SQLite and on PostgreSQL.
#ifndef TOB_TESTS_REGISTRY_RIG_H
#define TOB_TESTS_REGISTRY_RIG_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/registry.h"
#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"
#include "ingestd/registry_headends.h"
#include "tests/unit/ingestd/both_engines.h"

#define T0 UINT64_C(1700000000000) // when it is, unless a test says otherwise

typedef struct fixture {
    char url[320];
    tob_registry *registry;
    uint64_t now_unix_ms;
    uint64_t change; // the number of the last change
} fixture;

// *state is the engine.
static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->url, sizeof(f->url), "%s", tob_test_database(*state));
    f->registry = open_registry(f->url);
    f->now_unix_ms = T0;
    *state = f;
    return 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    tob_registry_close(f->registry);
    free(f);
    return 0;
}

static inline void reopen(fixture *f) {
    tob_registry_close(f->registry);
    f->registry = open_registry(f->url);
}

static inline bool on_sqlite(const fixture *f) {
    return strcmp(tob_registry_engine(f->registry), "sqlite") == 0;
}

// ---- changes

static inline void begin(fixture *f) {
    static const tob_registry_actor actor = {.who = "admin ann", .peer = "192.0.2.7"};
    tob_error err = tob_registry_begin(f->registry, &actor, f->now_unix_ms);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), tob_registry_last_problem(f->registry));
    }
    f->change = tob_registry_change(f->registry);
}

// Commits, or rolls back what failed; returns the error.
static inline tob_error end(fixture *f, tob_error err) {
    if (err) {
        tob_registry_rollback(f->registry);
        return err;
    }
    err = tob_registry_commit(f->registry);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), tob_registry_last_problem(f->registry));
    }
    return TOB_OK;
}

// One change: CHANGE(f, tob_registry_revoke_client(f->registry, "c")).
#define CHANGE(f, call) (begin(f), end(f, (call)))

static inline tob_registry_cluster a_cluster(const char *id) {
    return (tob_registry_cluster){.id = id,
                                  .name = "name of it",
                                  .region = "eu",
                                  .datacenter = "fra1",
                                  .headend_url = "https://h.example",
                                  .created_unix_ms = T0 - 1};
}

static inline tob_registry_client a_client(const char *id, const char *cluster_id) {
    tob_registry_client client = {.id = id,
                                  .name = "Ann's laptop",
                                  .type = "docker",
                                  .cluster_id = cluster_id,
                                  .public_key = "cHVibGlj",
                                  .location = "Fra1",
                                  .created_unix_ms = T0 + 123};
    memset(client.key_hash, 0, sizeof(client.key_hash));
    client.key_hash[0] = 0xab;
    client.key_hash[31] = 0xcd;
    return client;
}

static inline tob_registry_headend a_headend(const char *id, const char *cluster_id) {
    return (
        tob_registry_headend){.id = id, .name = "edge", .cluster_id = cluster_id, .created_unix_ms = T0 + 3};
}

static inline tob_error add_cluster(fixture *f, const char *id) {
    tob_registry_cluster cluster = a_cluster(id);
    return CHANGE(f, tob_registry_add_cluster(f->registry, &cluster));
}

static inline tob_error add_client(fixture *f, const char *id, const char *cluster_id) {
    tob_registry_client client = a_client(id, cluster_id);
    return CHANGE(f, tob_registry_add_client(f->registry, &client));
}

static inline tob_error add_headend(fixture *f, const char *id, const char *cluster_id) {
    tob_registry_headend headend = a_headend(id, cluster_id);
    return CHANGE(f, tob_registry_add_headend(f->registry, &headend));
}

static inline tob_error add_certificate(fixture *f, const char *serial, const char *type,
                                        const char *subject) {
    tob_registry_certificate certificate = {.serial = serial,
                                            .type = type,
                                            .subject = subject,
                                            .not_before_unix_s = T0 / 1000,
                                            .not_after_unix_s = T0 / 1000 + 1000,
                                            .reason = "",
                                            .fingerprint = "f",
                                            .pem = "p"};
    return CHANGE(f, tob_registry_add_certificate(f->registry, &certificate));
}

// ---- what was read

// Words of a reading, in order, with a blank after each.
typedef struct words {
    char text[2048];
    size_t count;
    tob_error refuse; // what to answer instead
} words;

static inline tob_error note(words *w, const char *word) {
    if (w->refuse) {
        return w->refuse;
    }
    size_t n = strlen(w->text);
    snprintf(w->text + n, sizeof(w->text) - n, "%s ", word);
    w->count++;
    return TOB_OK;
}

static inline tob_error note_cluster(void *user, const tob_registry_cluster *cluster) {
    return note(user, cluster->id);
}

static inline tob_error note_client(void *user, const tob_registry_client *client) {
    return note(user, client->id);
}

static inline tob_error note_headend(void *user, const tob_registry_headend *headend) {
    return note(user, headend->id);
}

static inline tob_error note_deletion(void *user, const tob_registry_deletion *deletion) {
    char word[256];
    snprintf(word, sizeof(word), "%s:%s%s", deletion->kind, deletion->id, deletion->erase ? ":erase" : "");
    return note(user, word);
}

// "ACTION:TARGET"
static inline tob_error note_audit(void *user, const tob_registry_audit_entry *entry) {
    char word[256];
    snprintf(word, sizeof(word), "%s:%s", entry->action, entry->target);
    return note(user, word);
}

static inline tob_error copy_entry(void *user, const tob_registry_audit_entry *entry) {
    snprintf(user, 512, "%s|%s|%s|%s|%s|%llu", entry->who, entry->peer, entry->action, entry->target,
             entry->detail, (unsigned long long)entry->at_unix_ms);
    return TOB_OK;
}

// A copy of a client.
typedef struct client_copy {
    tob_registry_client row;
    char strings[6][1100];
} client_copy;

static inline tob_error copy_client(void *user, const tob_registry_client *client) {
    client_copy *c = user;
    const char *strings[] = {client->id,         client->name,       client->type,
                             client->cluster_id, client->public_key, client->location};
    for (size_t i = 0; i < 6; i++) {
        snprintf(c->strings[i], sizeof(c->strings[i]), "%s", strings[i]);
    }
    c->row = *client;
    c->row.id = c->strings[0];
    c->row.name = c->strings[1];
    c->row.type = c->strings[2];
    c->row.cluster_id = c->strings[3];
    c->row.public_key = c->strings[4];
    c->row.location = c->strings[5];
    return TOB_OK;
}

static inline tob_registry_client get_client(fixture *f, const char *id, client_copy *ret) {
    assert_int_equal(tob_registry_get_client(f->registry, id, copy_client, ret), TOB_OK);
    return ret->row;
}

typedef struct cluster_copy {
    tob_registry_cluster row;
    char strings[5][1100];
} cluster_copy;

static inline tob_error copy_cluster(void *user, const tob_registry_cluster *cluster) {
    cluster_copy *c = user;
    const char *strings[] = {cluster->id, cluster->name, cluster->region, cluster->datacenter,
                             cluster->headend_url};
    for (size_t i = 0; i < 5; i++) {
        snprintf(c->strings[i], sizeof(c->strings[i]), "%s", strings[i]);
    }
    c->row = *cluster;
    c->row.id = c->strings[0];
    c->row.name = c->strings[1];
    c->row.region = c->strings[2];
    c->row.datacenter = c->strings[3];
    c->row.headend_url = c->strings[4];
    return TOB_OK;
}

static inline tob_registry_cluster get_cluster(fixture *f, const char *id, cluster_copy *ret) {
    assert_int_equal(tob_registry_get_cluster(f->registry, id, copy_cluster, ret), TOB_OK);
    return ret->row;
}

#endif
