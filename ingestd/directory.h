// tob_directory is the registry as the hot path sees it: an in-memory index of who may report and how they
// are labelled. The registry's service changes it after the database has; everything else reads.
//
// Threads: readers take the read lock once for a whole batch and keep no pointer past it; writers take the
//          write lock inside their calls.
// Errors:  TOB_NO_MEMORY from writers.
#ifndef TOB_INGESTD_DIRECTORY_H
#define TOB_INGESTD_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/secret.h"

typedef struct tob_directory tob_directory;

typedef struct tob_directory_client {
    const char *id;
    const char *name;
    const char *type;
    uint8_t key_hash[TOB_SHA256_BYTES]; // SHA-256 of the API key
    bool revoked;
} tob_directory_client;

typedef struct tob_directory_headend {
    const char *id;
    const char *name;
    const char *region;     // of its cluster; "" without one
    const char *datacenter; // likewise
} tob_directory_headend;

TOB_MUST_USE tob_error tob_directory_new(tob_directory **ret);
void tob_directory_free(tob_directory *directory);

void tob_directory_read_lock(tob_directory *directory);
void tob_directory_read_unlock(tob_directory *directory);

// Under the read lock; NULL when unknown. A revoked client is still found.
const tob_directory_client *tob_directory_find_client(const tob_directory *directory, const char *id,
                                                      size_t len);
const tob_directory_headend *tob_directory_find_headend(const tob_directory *directory, const char *id,
                                                        size_t len);

// How many are registered (revoked clients do not count). Lock-free.
uint64_t tob_directory_clusters(const tob_directory *directory);
uint64_t tob_directory_clients(const tob_directory *directory);
uint64_t tob_directory_headends(const tob_directory *directory);

// Writers: add or replace by id; everything is copied.
TOB_MUST_USE tob_error tob_directory_put_client(tob_directory *directory, const tob_directory_client *client);
TOB_MUST_USE tob_error tob_directory_put_headend(tob_directory *directory,
                                                 const tob_directory_headend *headend);

// tob_directory_remove_client and _headend: from their return on, nobody finds it. False when it was not there.
bool tob_directory_remove_client(tob_directory *directory, const char *id);
bool tob_directory_remove_headend(tob_directory *directory, const char *id);

void tob_directory_count_cluster(tob_directory *directory);

#endif
