#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingestd/registry_backend.h"
#include "ingestd/registry_migrations.h"
#include "util/clock.h"

#define BUSY_TIMEOUT_MS 2000 // for a backup that reads, or the process before us that is about to end

enum statement {
    ADD_CLUSTER,
    ADD_CLIENT,
    ADD_HEADEND,
    REVOKE_CLIENT,
    DELETE_CLIENT,
    DELETE_HEADEND,
    LIST_CLUSTERS,
    LIST_CLIENTS,
    LIST_HEADENDS,
    GET_CLIENT,
    GET_HEADEND,
    STATEMENT_COUNT
};

#define CLIENT_COLUMNS                                                                                       \
    "id, name, type, ifnull(cluster_id, ''), key_hash, created_unix_ms, ifnull(revoked_unix_ms, 0)"
#define HEADEND_COLUMNS                                                                                      \
    "h.id, h.name, ifnull(h.cluster_id, ''), ifnull(c.region, ''), ifnull(c.datacenter, ''), "               \
    "h.created_unix_ms"
#define HEADENDS "headends AS h LEFT JOIN clusters AS c ON c.id = h.cluster_id"

static const char *const sql[STATEMENT_COUNT] = {
    [ADD_CLUSTER] = "INSERT INTO clusters (id, name, region, datacenter, headend_url, created_unix_ms) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [ADD_CLIENT] =
        "INSERT INTO clients (id, name, type, cluster_id, key_hash, created_unix_ms, revoked_unix_ms) "
        "VALUES (?1, ?2, ?3, nullif(?4, ''), ?5, ?6, nullif(?7, 0))",
    [ADD_HEADEND] = "INSERT INTO headends (id, name, cluster_id, created_unix_ms) "
                    "VALUES (?1, ?2, nullif(?3, ''), ?4)",
    [REVOKE_CLIENT] = "UPDATE clients SET revoked_unix_ms = ifnull(revoked_unix_ms, ?2) WHERE id = ?1",
    [DELETE_CLIENT] = "DELETE FROM clients WHERE id = ?1",
    [DELETE_HEADEND] = "DELETE FROM headends WHERE id = ?1",
    [LIST_CLUSTERS] = "SELECT id, name, region, datacenter, headend_url, created_unix_ms FROM clusters "
                      "WHERE id > ?1 ORDER BY id LIMIT ?2",
    [LIST_CLIENTS] = "SELECT " CLIENT_COLUMNS " FROM clients WHERE id > ?1 ORDER BY id LIMIT ?2",
    [LIST_HEADENDS] = "SELECT " HEADEND_COLUMNS " FROM " HEADENDS " WHERE h.id > ?1 ORDER BY h.id LIMIT ?2",
    [GET_CLIENT] = "SELECT " CLIENT_COLUMNS " FROM clients WHERE id = ?1",
    [GET_HEADEND] = "SELECT " HEADEND_COLUMNS " FROM " HEADENDS " WHERE h.id = ?1",
};

typedef struct sqlite_registry {
    tob_registry base;
    char *path;
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
} sqlite_registry;

static const tob_registry_backend backend;

static tob_error error_of(int code) {
    switch (code) {
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_UNIQUE: return TOB_ALREADY_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY: return TOB_NOT_FOUND;
    default: break;
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return TOB_BUSY;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN: return TOB_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return TOB_DAMAGED;
    case SQLITE_NOMEM: return TOB_NO_MEMORY;
    default: return TOB_INTERNAL;
    }
}

// Translates the failure of the last call on the database and keeps its text.
static tob_error failed(sqlite_registry *r) {
    tob_error err = error_of(sqlite3_extended_errcode(r->db));
    if (err == TOB_BUSY) {
        tob_registry_say(&r->base.problem, "registry %s: another process has it open", r->path);
    } else {
        tob_registry_say(&r->base.problem, "registry %s: %s", r->path, sqlite3_errmsg(r->db));
    }
    return err;
}

static tob_error run(sqlite_registry *r, const char *text) {
    return sqlite3_exec(r->db, text, NULL, NULL, NULL) == SQLITE_OK ? TOB_OK : failed(r);
}

// A query of one number; `fallback` when it has no row.
static tob_error query_number(sqlite_registry *r, const char *text, int64_t fallback, int64_t *ret) {
    sqlite3_stmt *statement = NULL;
    tob_error err = TOB_OK;
    if (sqlite3_prepare_v2(r->db, text, -1, &statement, NULL) != SQLITE_OK) {
        return failed(r);
    }
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        *ret = sqlite3_column_int64(statement, 0);
    } else if (code == SQLITE_DONE) {
        *ret = fallback;
    } else {
        err = failed(r);
    }
    sqlite3_finalize(statement);
    return err;
}

static tob_error apply_migration(sqlite_registry *r, int64_t version) {
    char note[128];
    snprintf(note, sizeof(note), "INSERT INTO schema_version (version, applied_unix_ms) VALUES (%lld, %llu)",
             (long long)version, (unsigned long long)tob_clock_unix_ms());
    tob_error err = run(r, "BEGIN IMMEDIATE");
    if (err) {
        return err;
    }
    err = run(r, tob_registry_migrations[version - 1]);
    if (!err) {
        err = run(r, note);
    }
    if (!err) {
        err = run(r, "COMMIT");
    }
    if (err) {
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL); // the first error is the one to tell
    }
    return err;
}

static tob_error migrate(sqlite_registry *r) {
    int64_t version = 0, newest = 0;
    tob_error err =
        run(r, "CREATE TABLE IF NOT EXISTS schema_version ("
               "  version INTEGER NOT NULL PRIMARY KEY, applied_unix_ms INTEGER NOT NULL) STRICT");
    if (!err) {
        err = query_number(r, "SELECT ifnull(max(version), 0) FROM schema_version", 0, &version);
    }
    if (err) {
        return err;
    }
    while (tob_registry_migrations[newest]) {
        newest++;
    }
    if (version > newest) {
        tob_registry_say(
            &r->base.problem,
            "registry %s: its schema has version %lld, and this program knows only %lld: it was made by "
            "a newer version of this program",
            r->path, (long long)version, (long long)newest);
        return TOB_PRECONDITION;
    }
    while (!err && version < newest) {
        err = apply_migration(r, ++version);
    }
    return err;
}

// SQLite would make the file readable for everyone; its -wal and -shm files take the mode of this one.
static tob_error make_private_file(sqlite_registry *r) {
    int fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        tob_registry_say(&r->base.problem, "registry %s: %s", r->path, strerror(errno));
        return TOB_IO;
    }
    close(fd);
    return TOB_OK;
}

static tob_error connect_database(sqlite_registry *r) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(r->path, &r->db, flags, NULL) != SQLITE_OK) {
        return r->db ? failed(r) : TOB_NO_MEMORY;
    }
    sqlite3_busy_timeout(r->db, BUSY_TIMEOUT_MS);
    // The directory is loaded once, so a second ingestd would not see what the first changes: the file is
    // ours alone. Exclusive locking before the first access also means WAL without shared memory.
    tob_error err = run(r, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                           "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                           "BEGIN EXCLUSIVE; COMMIT");
    int64_t foreign_keys = 0;
    if (!err) {
        err = query_number(r, "PRAGMA foreign_keys", 0, &foreign_keys);
    }
    if (!err && !foreign_keys) {
        tob_registry_say(&r->base.problem, "registry %s: this SQLite has no foreign keys", r->path);
        err = TOB_INTERNAL;
    }
    return err;
}

static tob_error prepare_all(sqlite_registry *r) {
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v3(r->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &r->statements[i], NULL) !=
            SQLITE_OK) {
            return failed(r);
        }
    }
    return TOB_OK;
}

static void registry_close(tob_registry *registry) {
    sqlite_registry *r = (sqlite_registry *)registry;
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3_finalize(r->statements[i]);
    }
    sqlite3_close(r->db);
    free(r->path);
    free(r);
}

tob_error tob_registry_sqlite_open(const char *path, tob_registry **ret, tob_registry_problem *ret_problem) {
    tob_error err = TOB_NO_MEMORY;
    sqlite_registry *r = calloc(1, sizeof(*r));
    if (!r) {
        tob_registry_say(ret_problem, "out of memory");
        return TOB_NO_MEMORY;
    }
    r->base.backend = &backend;
    // "./" keeps names like ":memory:" from meaning something else to SQLite.
    if (asprintf(&r->path, "%s%s", path[0] == '/' ? "" : "./", path) < 0) {
        r->path = NULL;
        goto out;
    }
    err = make_private_file(r);
    if (!err) {
        err = connect_database(r);
    }
    if (!err) {
        err = migrate(r);
    }
    if (!err) {
        err = prepare_all(r);
    }
    if (err) {
        goto out;
    }
    *ret = &r->base;
    return TOB_OK;
out:
    *ret_problem = r->base.problem;
    if (!ret_problem->text[0]) {
        tob_registry_say(ret_problem, "registry %s: %s", path, tob_error_string(err));
    }
    registry_close(&r->base);
    return err;
}

static int bind_text(sqlite3_stmt *statement, int at, const char *text) {
    return sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

static int bind_number(sqlite3_stmt *statement, int at, uint64_t number) {
    return sqlite3_bind_int64(statement, at, (sqlite3_int64)number);
}

// Runs a statement whose parameters are bound and that returns no rows.
static tob_error carry_out(sqlite_registry *r, sqlite3_stmt *statement, int bound) {
    tob_error err = TOB_OK;
    if (bound != SQLITE_OK || sqlite3_step(statement) != SQLITE_DONE) {
        err = failed(r);
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return err;
}

static tob_error add_cluster(tob_registry *registry, const tob_registry_cluster *cluster) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[ADD_CLUSTER];
    int bound = bind_text(s, 1, cluster->id) | bind_text(s, 2, cluster->name) |
                bind_text(s, 3, cluster->region) | bind_text(s, 4, cluster->datacenter) |
                bind_text(s, 5, cluster->headend_url) | bind_number(s, 6, cluster->created_unix_ms);
    return carry_out(r, s, bound);
}

static tob_error add_client(tob_registry *registry, const tob_registry_client *client) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[ADD_CLIENT];
    int bound = bind_text(s, 1, client->id) | bind_text(s, 2, client->name) | bind_text(s, 3, client->type) |
                bind_text(s, 4, client->cluster_id) |
                sqlite3_bind_blob(s, 5, client->key_hash, sizeof(client->key_hash), SQLITE_STATIC) |
                bind_number(s, 6, client->created_unix_ms) | bind_number(s, 7, client->revoked_unix_ms);
    return carry_out(r, s, bound);
}

static tob_error add_headend(tob_registry *registry, const tob_registry_headend *headend) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[ADD_HEADEND];
    int bound = bind_text(s, 1, headend->id) | bind_text(s, 2, headend->name) |
                bind_text(s, 3, headend->cluster_id) | bind_number(s, 4, headend->created_unix_ms);
    return carry_out(r, s, bound);
}

// The same for a statement that changes the one row of an id.
static tob_error carry_out_on_row(sqlite_registry *r, sqlite3_stmt *statement, int bound) {
    tob_error err = carry_out(r, statement, bound);
    if (!err && sqlite3_changes(r->db) == 0) {
        tob_registry_say(&r->base.problem, "registry %s: no such id", r->path);
        err = TOB_NOT_FOUND;
    }
    return err;
}

static tob_error revoke_client(tob_registry *registry, const char *id, uint64_t now_unix_ms) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[REVOKE_CLIENT];
    return carry_out_on_row(r, s, bind_text(s, 1, id) | bind_number(s, 2, now_unix_ms));
}

static tob_error delete_client(tob_registry *registry, const char *id) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[DELETE_CLIENT];
    return carry_out_on_row(r, s, bind_text(s, 1, id));
}

static tob_error delete_headend(tob_registry *registry, const char *id) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[DELETE_HEADEND];
    return carry_out_on_row(r, s, bind_text(s, 1, id));
}

// A row's text; "" for what has none. NULL only without memory.
static const char *text_at(sqlite3_stmt *statement, int column) {
    return (const char *)sqlite3_column_text(statement, column);
}

// What to do with one row of a query.
typedef tob_error (*row_fn)(sqlite3_stmt *statement, void *context);

static tob_error each_row(sqlite_registry *r, sqlite3_stmt *statement, int bound, row_fn fn, void *context,
                          size_t *ret_count) {
    tob_error err = bound == SQLITE_OK ? TOB_OK : failed(r);
    *ret_count = 0;
    while (!err) {
        int code = sqlite3_step(statement);
        if (code == SQLITE_DONE) {
            break;
        }
        if (code != SQLITE_ROW) {
            err = failed(r);
            break;
        }
        err = fn(statement, context);
        ++*ret_count;
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return err;
}

typedef struct cluster_context {
    tob_registry_cluster_fn fn;
    void *user;
} cluster_context;

static tob_error cluster_row(sqlite3_stmt *s, void *context) {
    cluster_context *c = context;
    tob_registry_cluster row = {.id = text_at(s, 0),
                                .name = text_at(s, 1),
                                .region = text_at(s, 2),
                                .datacenter = text_at(s, 3),
                                .headend_url = text_at(s, 4),
                                .created_unix_ms = (uint64_t)sqlite3_column_int64(s, 5)};
    if (!row.id || !row.name || !row.region || !row.datacenter || !row.headend_url) {
        return TOB_NO_MEMORY;
    }
    return c->fn(c->user, &row);
}

typedef struct client_context {
    tob_registry_client_fn fn;
    void *user;
} client_context;

static tob_error client_row(sqlite3_stmt *s, void *context) {
    client_context *c = context;
    tob_registry_client row = {.id = text_at(s, 0),
                               .name = text_at(s, 1),
                               .type = text_at(s, 2),
                               .cluster_id = text_at(s, 3),
                               .created_unix_ms = (uint64_t)sqlite3_column_int64(s, 5),
                               .revoked_unix_ms = (uint64_t)sqlite3_column_int64(s, 6)};
    const void *hash = sqlite3_column_blob(s, 4);
    if (!row.id || !row.name || !row.type || !row.cluster_id || !hash) {
        return TOB_NO_MEMORY;
    }
    if (sqlite3_column_bytes(s, 4) != TOB_SHA256_BYTES) {
        return TOB_DAMAGED;
    }
    memcpy(row.key_hash, hash, sizeof(row.key_hash));
    return c->fn(c->user, &row);
}

typedef struct headend_context {
    tob_registry_headend_fn fn;
    void *user;
} headend_context;

static tob_error headend_row(sqlite3_stmt *s, void *context) {
    headend_context *c = context;
    tob_registry_headend row = {.id = text_at(s, 0),
                                .name = text_at(s, 1),
                                .cluster_id = text_at(s, 2),
                                .region = text_at(s, 3),
                                .datacenter = text_at(s, 4),
                                .created_unix_ms = (uint64_t)sqlite3_column_int64(s, 5)};
    if (!row.id || !row.name || !row.cluster_id || !row.region || !row.datacenter) {
        return TOB_NO_MEMORY;
    }
    return c->fn(c->user, &row);
}

static tob_error list(tob_registry *registry, enum statement which, const char *after, uint32_t max,
                      row_fn fn, void *context) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[which];
    size_t count = 0;
    return each_row(r, s, bind_text(s, 1, after) | bind_number(s, 2, max), fn, context, &count);
}

static tob_error get(tob_registry *registry, enum statement which, const char *id, row_fn fn, void *context) {
    sqlite_registry *r = (sqlite_registry *)registry;
    sqlite3_stmt *s = r->statements[which];
    size_t count = 0;
    tob_error err = each_row(r, s, bind_text(s, 1, id), fn, context, &count);
    if (!err && count == 0) {
        tob_registry_say(&r->base.problem, "registry %s: no such id", r->path);
        err = TOB_NOT_FOUND;
    }
    return err;
}

static tob_error list_clusters(tob_registry *registry, const char *after, uint32_t max,
                               tob_registry_cluster_fn fn, void *user) {
    return list(registry, LIST_CLUSTERS, after, max, cluster_row, &(cluster_context){fn, user});
}

static tob_error list_clients(tob_registry *registry, const char *after, uint32_t max,
                              tob_registry_client_fn fn, void *user) {
    return list(registry, LIST_CLIENTS, after, max, client_row, &(client_context){fn, user});
}

static tob_error list_headends(tob_registry *registry, const char *after, uint32_t max,
                               tob_registry_headend_fn fn, void *user) {
    return list(registry, LIST_HEADENDS, after, max, headend_row, &(headend_context){fn, user});
}

static tob_error get_client(tob_registry *registry, const char *id, tob_registry_client_fn fn, void *user) {
    return get(registry, GET_CLIENT, id, client_row, &(client_context){fn, user});
}

static tob_error get_headend(tob_registry *registry, const char *id, tob_registry_headend_fn fn, void *user) {
    return get(registry, GET_HEADEND, id, headend_row, &(headend_context){fn, user});
}

static const tob_registry_backend backend = {
    .close = registry_close,
    .add_cluster = add_cluster,
    .add_client = add_client,
    .add_headend = add_headend,
    .revoke_client = revoke_client,
    .delete_client = delete_client,
    .delete_headend = delete_headend,
    .list_clusters = list_clusters,
    .list_clients = list_clients,
    .list_headends = list_headends,
    .get_client = get_client,
    .get_headend = get_headend,
};
