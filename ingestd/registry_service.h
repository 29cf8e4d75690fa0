// The services Registry, Certificates and SigningKeys (their .proto files): admins add, list, change, revoke and delete what is
// registered, rotate keys, have tokens and certificates signed. Most methods need the admin token; registry_methods.h says
// what else opens the door.
//
// Databases block and RPC callbacks must not, so one worker thread carries the calls out, in order; what waits is
// bounded. A change is in the database first and then, by registry_sync.h, in the directory, before its answer: a revoked key
// is refused from the next request on. The same worker takes over what other processes changed.
//
// Threads: _new, _register, _start, _stop and _free from one; calls come on NNG's threads.
#ifndef TOB_INGESTD_REGISTRY_SERVICE_H
#define TOB_INGESTD_REGISTRY_SERVICE_H

#include "ingestd/ca.h"
#include "ingestd/committer.h"
#include "ingestd/credentials.h"
#include "ingestd/directory.h"
#include "ingestd/eraser.h"
#include "ingestd/jwt.h"
#include "ingestd/limiter.h"
#include "ingestd/registry.h"
#include "ingestd/registry_sync.h"
#include "ingestd/revocations.h"
#include "rpc/process.h"
#include "rpc/server.h"
#include "util/error.h"
#include "util/secret.h"

#define TOB_REGISTRY_QUEUE_MAX         64 // calls that wait; one more is answered BUSY
#define TOB_REGISTRY_RETRY_MS          1000
#define TOB_REGISTRY_DEFAULT_PAGE_ROWS 1000
#define TOB_REGISTRY_MAX_PAGE_ROWS     10000
#define TOB_REGISTRY_MAX_PAGE_BYTES    (1u << 20) // a page ends early past this
#define TOB_REGISTRY_MAX_URL_BYTES     1024
#define TOB_REGISTRY_DEFAULT_TTL_S     (UINT64_C(30) * 24 * 3600)
#define TOB_REGISTRY_MAX_TTL_S         (UINT64_C(3652) * 24 * 3600) // ten years
#define TOB_REGISTRY_MAX_GRACE_S       (UINT64_C(90) * 24 * 3600)
#define TOB_REGISTRY_MAX_IMPORT        250000 // clients in one import
#define TOB_REGISTRY_IMPORT_IDLE_MS    60000
#define TOB_REGISTRY_MAX_IMPORTS       4 // at once

typedef struct tob_registry_service tob_registry_service;

// All borrowed; they must outlive the service.
typedef struct tob_registry_service_options {
    tob_registry *registry; // used by the service's thread only, from _start to _stop
    tob_registry_sync *sync;
    tob_directory *directory;
    tob_committer *committer; // takes a deleted source's row out of the fleet
    tob_eraser *eraser;
    tob_jwt *jwt;
    const tob_ca *ca;
    tob_revocations *revocations; // used by the service's thread only
    tob_limiter *limiter;
    tob_credentials *credentials; // of clients and headends that come by themselves
    tob_secrets *admin_secrets;
    tob_process *process;
} tob_registry_service_options;

//   ret   owned by the caller; free with tob_registry_service_free
// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_registry_service_new(const tob_registry_service_options *options,
                                                tob_registry_service **ret);

// Before the server's start; the service must outlive the server. Errors: as tob_rpc_server_add.
TOB_MUST_USE tob_error tob_registry_service_register(tob_registry_service *service, tob_rpc_server *server);

// tob_registry_service_start begins the worker thread, and to listen for changes of others. The sync has run once before.
// Errors: TOB_INTERNAL when no thread can be made.
TOB_MUST_USE tob_error tob_registry_service_start(tob_registry_service *service);

// tob_registry_service_stop carries out what waits and ends the thread; later calls are answered UNAVAILABLE.
// Accepts NULL and may be called twice.
void tob_registry_service_stop(tob_registry_service *service);
void tob_registry_service_free(tob_registry_service *service);

#endif
