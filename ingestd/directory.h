// tob_directory is the registry as the hot path sees it: an in-memory index of who may report and how they
// are labelled. registry_sync.h changes it after the database has; everything else reads.
//
// Threads: readers take the read lock once for a whole batch and keep no pointer past it; writers take the
//          write lock inside their calls. tob_directory_client_heard is for readers.
// Errors:  TOB_NO_MEMORY from writers.
#ifndef TOB_INGESTD_DIRECTORY_H
#define TOB_INGESTD_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/secret.h"

typedef struct tob_directory tob_directory;

// The key before the newest: few clients have one at a time, so it is kept apart from the others' memory.
typedef struct tob_directory_previous_key {
    uint8_t hash[TOB_SHA256_BYTES];
    uint64_t expires_unix_ms; // until when it is good
} tob_directory_previous_key;

typedef struct tob_directory_client {
    const char *id;
    const char *name;
    const char *type;
    const tob_directory_previous_key *previous_key; // NULL: only the newest is good
    uint8_t key_hash[TOB_SHA256_BYTES];             // SHA-256 of the newest API key
    bool revoked;
} tob_directory_client;

typedef struct tob_directory_headend {
    const char *id;
    const char *name;
    const char *cluster_id; // "" without one
    const char *region;     // of its cluster; "" without one
    const char *datacenter; // likewise
    uint64_t tokens_not_before_unix_s;
    bool revoked; // it, or its cluster
} tob_directory_headend;

TOB_MUST_USE tob_error tob_directory_new(tob_directory **ret);
void tob_directory_free(tob_directory *directory);

void tob_directory_read_lock(tob_directory *directory);
void tob_directory_read_unlock(tob_directory *directory);

// Under the read lock; NULL when unknown. A revoked one is still found.
const tob_directory_client *tob_directory_find_client(const tob_directory *directory, const char *id,
                                                      size_t len);
const tob_directory_headend *tob_directory_find_headend(const tob_directory *directory, const char *id,
                                                        size_t len);

// Which of a client's keys a hash is of.
typedef enum tob_key_match { TOB_KEY_WRONG, TOB_KEY_NEWEST, TOB_KEY_PREVIOUS } tob_key_match;

// tob_directory_match_key compares in constant time, also for a client that is NULL (always WRONG). It does not look at
// `revoked`.
tob_key_match tob_directory_match_key(const tob_directory_client *client,
                                      const uint8_t key_hash[TOB_SHA256_BYTES], uint64_t now_unix_ms);

// tob_directory_client_heard notes which key the client was let in with, for the count below: under the read lock, lock-free,
// one write only when it is another one than last time. A new newest key, or the end of the overlap, starts again.
void tob_directory_client_heard(tob_directory *directory, const tob_directory_client *client,
                                tob_key_match key);

// How many are registered (revoked ones do not count). Lock-free.
uint64_t tob_directory_clusters(const tob_directory *directory);
uint64_t tob_directory_clients(const tob_directory *directory);
uint64_t tob_directory_headends(const tob_directory *directory);

// tob_directory_on_previous_key: how many clients were last heard with the previous key and would be let in with it at
// `now`. Lock-free while there are none, else a look at those under the read lock.
uint64_t tob_directory_on_previous_key(tob_directory *directory, uint64_t now_unix_ms);

// Writers: add or replace by id; everything is copied.
//   ret_relabelled   whether a label of what was there before (its name, type, region or datacenter) is another now; may
//                    be NULL
TOB_MUST_USE tob_error tob_directory_put_client(tob_directory *directory, const tob_directory_client *client,
                                                bool *ret_relabelled);
TOB_MUST_USE tob_error tob_directory_put_headend(tob_directory *directory,
                                                 const tob_directory_headend *headend, bool *ret_relabelled);

// tob_directory_remove_client and _headend: from their return on, nobody finds it. False when it was not there.
bool tob_directory_remove_client(tob_directory *directory, const char *id);
bool tob_directory_remove_headend(tob_directory *directory, const char *id);

void tob_directory_set_clusters(tob_directory *directory, uint64_t count);

// tob_directory_mark and _sweep replace everything: what was put since the mark stays, the rest is removed, `fn` being called
// with each (under no lock).
typedef void (*tob_directory_removed_fn)(void *user, bool headend, const char *id);
void tob_directory_mark(tob_directory *directory);
TOB_MUST_USE tob_error tob_directory_sweep(tob_directory *directory, tob_directory_removed_fn fn, void *user);

#endif
