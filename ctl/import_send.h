// Clients on their way into the registry: in chunks, and all or none (registry.proto, ImportClients).
//
// Threads: main thread. Errors: printed on stderr, once; the return value is the exit status.
#ifndef TOB_CTL_IMPORT_SEND_H
#define TOB_CTL_IMPORT_SEND_H

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/import_rows.h"
#include "ctl/session.h"

#define TOB_IMPORT_CHUNK_ROWS  2000
#define TOB_IMPORT_CHUNK_BYTES (1u << 20)

// tob_import_send sends the rows, at least one.
//   session         open; all chunks go to the ingestd that answers the first
//   before_commit   called before the last chunk goes: if it returns another status than 0, that ends the import, and
//                   nothing is added
//   ret             owned by the caller, tobogganing__v1__import_clients_response__free_unpacked(ret, NULL)
//   ret_unsure      set when the import failed: it may have been carried out all the same
TOB_MUST_USE int tob_import_send(tob_ctl_session *session, const tob_import_rows *rows, bool skip_existing,
                                 int (*before_commit)(void *user), void *user,
                                 Tobogganing__V1__ImportClientsResponse **ret, bool *ret_unsure);

#endif
