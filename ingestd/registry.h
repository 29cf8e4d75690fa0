// tob_registry is the durable list of who may report and of what proves it: clusters, clients, headends, certificates,
// signing keys, and the log of every act. It lives in a database that a URL chooses (sql/sql.h); this header has what all of
// it shares, registry_*.h one kind of rows each. It checks what the database can check (unique ids, existing clusters);
// fields are checked by the service before.
//
// Everything that changes happens inside a change: a transaction with a number of its own, which every row that it touches
// is marked with, so that this process and all others find what changed since a number that they know.
//
// Threads: one at a time, except what tob_registry_watch says. Calls block on the database: never from an RPC callback.
// Errors:  those of sql/sql.h; tob_registry_last_problem tells more.
#ifndef TOB_INGESTD_REGISTRY_H
#define TOB_INGESTD_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/sql.h"
#include "util/error.h"
#include "util/secret.h"

#define TOB_REGISTRY_CHANNEL   "tobogganing_registry"
#define TOB_REGISTRY_FORGET_MS (UINT64_C(30) * 24 * 3600 * 1000) // deletions are remembered this long
#define TOB_REGISTRY_FORGET_HEADEND_MS                                                                       \
    (UINT64_C(3653) * 24 * 3600 * 1000) // a token may be good for ten years
#define TOB_CLUSTER_SILENT_MS       (UINT64_C(5) * 60 * 1000)
#define TOB_REGISTRY_MAX_WHO_BYTES  160
#define TOB_REGISTRY_MAX_PEER_BYTES 64

typedef struct tob_registry tob_registry;

// Who acts, for the audit log. Borrowed.
typedef struct tob_registry_actor {
    const char *who;  // "admin alice", "client c-1", "ingestd"
    const char *peer; // address, or ""
} tob_registry_actor;

// tob_registry_open opens or makes the database and brings its schema up to date.
//   password_file   as in tob_sql_open
//   ret           owned by the caller; free with tob_registry_close
//   ret_problem   filled on an error
// Errors: TOB_INVALID for the URL; TOB_BUSY when another process has the file; TOB_UNAVAILABLE when the server is away;
//         TOB_PRECONDITION when a newer version of this program made the schema.
TOB_MUST_USE tob_error tob_registry_open(const char *url, const char *password_file, tob_registry **ret,
                                         tob_sql_problem_text *ret_problem);
void tob_registry_close(tob_registry *registry);

// The connection, for the next statement of registry_*.c: nobody else writes SQL. Forgets the last problem.
tob_sql *tob_registry_sql(tob_registry *registry);

const char *tob_registry_engine(const tob_registry *registry); // "sqlite" or "postgresql"

// tob_registry_last_problem: why the last call failed, in the words of tob_registry_say or else of the database.
const char *tob_registry_last_problem(const tob_registry *registry);

// tob_registry_say is for the row functions: the problem is the caller's and not the database's, "no such cluster: k-1".
void tob_registry_say(tob_registry *registry, const char *format, ...) TOB_PRINTF(2, 3);

// tob_registry_begin opens a change; every function that adds, changes or deletes needs one, and writes its line of the audit
// log into it. Changes of several processes wait for each other here.
//   actor   borrowed until the commit or rollback
TOB_MUST_USE tob_error tob_registry_begin(tob_registry *registry, const tob_registry_actor *actor,
                                          uint64_t now_unix_ms);
// tob_registry_commit: durable on return, and the others are told. On an error everything is as before (but see
// TOB_UNAVAILABLE in sql.h).
TOB_MUST_USE tob_error tob_registry_commit(tob_registry *registry);
void tob_registry_rollback(tob_registry *registry); // also fine when none is open

// Of the open change.
const tob_registry_actor *tob_registry_acting(const tob_registry *registry);
uint64_t tob_registry_change(const tob_registry *registry);
uint64_t tob_registry_now(const tob_registry *registry);

// tob_registry_audit writes a line; the row functions call it. detail: for a person, without secrets; may be "".
TOB_MUST_USE tob_error tob_registry_audit(tob_registry *registry, const char *action, const char *target,
                                          const char *detail);

// tob_registry_detail_changed is for the detail of an update: it adds the field's name when its value is another now.
#define TOB_REGISTRY_DETAIL_BYTES 256
void tob_registry_detail_changed(char detail[TOB_REGISTRY_DETAIL_BYTES], const char *field,
                                 const char *before, const char *after);

// tob_registry_last_change: the number of the newest change that is committed, and up to which one deletions are forgotten:
// who knows less than that has to read everything.
TOB_MUST_USE tob_error tob_registry_last_change(tob_registry *registry, uint64_t *ret_change,
                                                uint64_t *ret_forgotten);

// Deletions after change `since`, in the order of changes.
typedef struct tob_registry_deletion {
    const char *kind; // "client", "headend", "cluster"
    const char *id;
    uint64_t deleted_unix_ms;
    bool erase;
    uint32_t certificates;
    uint64_t change;
} tob_registry_deletion;
typedef tob_error (*tob_registry_deletion_fn)(void *user, const tob_registry_deletion *deletion);
TOB_MUST_USE tob_error tob_registry_deletions(tob_registry *registry, uint64_t since,
                                              tob_registry_deletion_fn fn, void *user);
// One of them. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_get_deletion(tob_registry *registry, const char *kind, const char *id,
                                                 tob_registry_deletion_fn fn, void *user);

// For the row functions. tob_registry_note_deletion notes that a row is gone, with the number and time of the open change,
// and drops notes that are too old. tob_registry_drop_deletion: the id is registered again. A note that says `erase` stays:
// others may have been away since, and have yet to erase.
TOB_MUST_USE tob_error tob_registry_note_deletion(tob_registry *registry,
                                                  const tob_registry_deletion *deletion);
TOB_MUST_USE tob_error tob_registry_drop_deletion(tob_registry *registry, const char *kind, const char *id);

// Audit entries, the newest first.
typedef struct tob_registry_audit_entry {
    uint64_t number;
    uint64_t at_unix_ms;
    const char *who;
    const char *peer;
    const char *action;
    const char *target;
    const char *detail;
} tob_registry_audit_entry;
typedef tob_error (*tob_registry_audit_fn)(void *user, const tob_registry_audit_entry *entry);
// before: entries with smaller numbers (UINT64_MAX: all);  target: "" for all.
TOB_MUST_USE tob_error tob_registry_list_audit(tob_registry *registry, uint64_t before, const char *target,
                                               uint64_t since_unix_ms, uint32_t max, tob_registry_audit_fn fn,
                                               void *user);

// tob_registry_watch: `fn` is called from a thread of the database's whenever another process may have committed a change;
// see tob_sql_watch. It only wakes somebody up.
TOB_MUST_USE tob_error tob_registry_watch(tob_registry *registry, void (*fn)(void *user, bool away),
                                          void *user);
void tob_registry_unwatch(tob_registry *registry);

#endif
