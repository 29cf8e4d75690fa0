// The methods of the registry's services, as the worker thread carries them out: one table for each kind of things. Inside the
// services only.
//
// Threads: the worker's. Each answers its call exactly once.
#ifndef TOB_INGESTD_REGISTRY_METHODS_H
#define TOB_INGESTD_REGISTRY_METHODS_H

#include <stdbool.h>
#include <stddef.h>

#include "tobogganing/v1/certificates.pb-c.h"

#include "ingestd/registry_service.h"

typedef struct tob_imports tob_imports; // imports.h
typedef struct tob_erased tob_erased;   // client_erase.h

// One call.
typedef struct tob_registry_call {
    const tob_registry_service_options *service;
    tob_rpc_call *call;
    tob_arena *arena;                          // the call's
    tob_registry_actor actor;                  // who is let in
    const char *client_id;                     // of a client that came with its own key, else NULL
    uint8_t client_key_hash[TOB_SHA256_BYTES]; // of that key
    const char *headend_id;                    // of a headend that came with its token, else NULL
    tob_imports *imports;                      // the worker's
    tob_erased *erased;                        // the worker's
    unsigned attempts;                         // before this one, that other changes have aborted
    bool again; // this one was too: not answered, the worker carries it out once more
} tob_registry_call;

#define TOB_REGISTRY_MAX_ATTEMPTS 3

// Who is let in; every attempt is counted under its type.
typedef enum tob_registry_access {
    TOB_ACCESS_ADMIN,
    TOB_ACCESS_ADMIN_OR_CLIENT,  // the client of the request; the method looks at client_key_hash once more
    TOB_ACCESS_ADMIN_OR_HEADEND, // the method compares headend_id
    TOB_ACCESS_ALL,
} tob_registry_access;

typedef struct tob_registry_method {
    const char *name; // NULL ends a table
    tob_registry_access access;
    void (*carry_out)(tob_registry_call *call, const ProtobufCMessage *request);
} tob_registry_method;

extern const tob_registry_method tob_client_methods[];      // of Registry
extern const tob_registry_method tob_import_methods[];      // of Registry
extern const tob_registry_method tob_cluster_methods[];     // of Registry
extern const tob_registry_method tob_headend_methods[];     // of Registry
extern const tob_registry_method tob_audit_methods[];       // of Registry
extern const tob_registry_method tob_certificate_methods[]; // of Certificates
extern const tob_registry_method tob_signing_key_methods[]; // of SigningKeys

// A method may be carried out more than once: a change that the database aborts because of others (TOB_ABORTED) is repeated as
// a whole, by the worker. "Has been answered" below means that the method has nothing more to do, in this case too.

// tob_registry_call_begin opens a change in the caller's name; when that fails the call has been answered.
TOB_MUST_USE bool tob_registry_call_begin(tob_registry_call *call);

// tob_registry_call_end commits the change, or rolls it back when `err`, and brings the directory up to date. False: it
// failed, and the call has been answered.
//   id_field   the field that held the id, for the answer: "client_id"
//   what       "client": "client_id: no such client"
TOB_MUST_USE bool tob_registry_call_end(tob_registry_call *call, tob_error err, const char *id_field,
                                        const char *what);

// tob_registry_call_fail answers for a failed call of the registry outside of a change, or for an arena (the call's) that is
// full. What the database says goes to the log, not to the caller; a database that is away is UNAVAILABLE with
// TOB_REGISTRY_RETRY_MS.
void tob_registry_call_fail(tob_registry_call *call, tob_error err, const char *id_field, const char *what);

// tob_registry_call_refuse rolls back the change, if one is open, and answers with a text of the method's own.
void tob_registry_call_refuse(tob_registry_call *call, tob_error err, const char *format, ...)
    TOB_PRINTF(3, 4);

// ---- what several kinds share in their lists: rows as messages in the call's arena

typedef struct tob_registry_page {
    tob_arena *arena;
    void **rows;
    size_t count;
    size_t max;
    size_t bytes;
    bool more; // rows after these
} tob_registry_page;

// tob_registry_page_begin reads page_size (0: the default). False: it is over the limit, or there is no memory, and the call
// has been answered.
TOB_MUST_USE bool tob_registry_page_begin(tob_registry_call *call, uint32_t page_size,
                                          tob_registry_page *ret);
// tob_registry_page_row makes room for a row: the message, initialised. TOB_CANCELLED when the page is full (`more` is set
// then): the reading ends, and that is no error.
//   text_bytes   of its strings
TOB_MUST_USE tob_error tob_registry_page_row(tob_registry_page *page, const ProtobufCMessageDescriptor *type,
                                             size_t text_bytes, void **ret);
// tob_registry_text copies a borrowed string; the error of a failed copy is the arena's, looked at once for the row.
char *tob_registry_text(tob_arena *arena, const char *text);
// tob_registry_page_end takes how the reading ended (TOB_CANCELLED is fine). False: it failed, and the call has been answered.
TOB_MUST_USE bool tob_registry_page_end(tob_registry_call *call, tob_error err);

// ---- certificates that come with a registration: certificate_methods.c

// tob_registry_call_issue signs a certificate and adds its row to the open change. False: it failed, the change is rolled back,
// and the call has been answered.
//   names   beside the subject; may be NULL with count 0
//   ret     filled, in the call's arena
TOB_MUST_USE bool tob_registry_call_issue(tob_registry_call *call, const char *type, const char *subject,
                                          const char *const *names, size_t name_count,
                                          const Tobogganing__V1__CertificateOrder *order,
                                          Tobogganing__V1__IssuedCertificate *ret);
// tob_registry_count_issued counts it (certificates_issued_total), once the change is committed.
void tob_registry_count_issued(tob_registry_call *call, const char *type);

#endif
