// tob_credentials judges what sources come with: a client's API key, a headend's token. Every one that is judged is counted
// (auth_attempts_total: api_key and jwt; success for who is let in, else failure or limited), and wrong ones slow their address
// down (limiter.h).
//
// Who is refused: UNAUTHENTICATED for a wrong or revoked credential, the same for an unknown client as for a wrong key;
// PERMISSION_DENIED for another headend's token; NOT_FOUND for a headend with a good token that is not registered.
//
// Threads: any; takes the directory's read lock.
#ifndef TOB_INGESTD_CREDENTIALS_H
#define TOB_INGESTD_CREDENTIALS_H

#include <stddef.h>
#include <stdint.h>

#include "ingestd/directory.h"
#include "ingestd/jwt.h"
#include "ingestd/limiter.h"
#include "rpc/process.h"
#include "rpc/server.h"
#include "util/error.h"
#include "util/text.h"

typedef struct tob_credentials tob_credentials;

// All borrowed; they must outlive it.
typedef struct tob_credentials_options {
    tob_directory *directory;
    tob_jwt *jwt;
    tob_limiter *limiter; // of API keys
    tob_limiter *
        token_limiter; // of tokens: wrong keys, which cost little to check, must not use up what good tokens need
    tob_process *process;
} tob_credentials_options;

// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_credentials_new(const tob_credentials_options *options, tob_credentials **ret);
void tob_credentials_free(tob_credentials *credentials);

// Somebody who says that he is a source, and how he was judged.
typedef struct tob_claim {
    const char *id;         // of the source; borrowed, as all of these
    const char *credential; // without "Bearer"
    const char *peer; // the address that it came from; NULL: the call's, found out only when it is needed
    // Judged:
    tob_error error;         // TOB_OK: let in
    const char *reason;      // why not; static text
    uint32_t retry_after_ms; // not 0: too many were wrong, come back then (with TOB_UNAUTHENTICATED)
} tob_claim;

// tob_credentials_clients judges API keys. Neighbours that share one string of a key are cheaper.
void tob_credentials_clients(tob_credentials *credentials, tob_rpc_call *call, tob_claim *claims, size_t n);

// tob_credentials_headends judges tokens.
void tob_credentials_headends(tob_credentials *credentials, tob_rpc_call *call, tob_claim *claims, size_t n);

// tob_credentials_token judges the token of a headend that does not say who it is: claim->id is not read.
//   ret_headend_id   set when it is let in
void tob_credentials_token(tob_credentials *credentials, tob_rpc_call *call, tob_claim *claim,
                           char ret_headend_id[TOB_MAX_ID_BYTES + 1]);

#endif
