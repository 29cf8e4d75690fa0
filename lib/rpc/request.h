// tob_rpc_request is the body of one call, copied and compressed once: it is sent as often as the call is tried.
//
// Threads: any may read and hold it; immutable. Internal to lib/rpc.
#ifndef TOB_RPC_REQUEST_H
#define TOB_RPC_REQUEST_H

#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/client.h"
#include "util/error.h"
#include "wire/compress.h"

// tob_rpc_encoder makes requests. Threads: any.
typedef struct tob_rpc_encoder {
    bool compress;
    pthread_mutex_t lock;
    tob_deflater *deflater; // made when first needed: its 256 KiB are costly to get
} tob_rpc_encoder;

void tob_rpc_encoder_init(tob_rpc_encoder *encoder, bool compress);
void tob_rpc_encoder_fini(tob_rpc_encoder *encoder);

typedef struct tob_rpc_request {
    atomic_uint references;
    const char *method;
    Tobogganing__V1__Encoding encoding;
    uint32_t size; // of the body before compression
    size_t body_len;
    const uint8_t *body;
    // For a call that is made for somebody else, else NULL:
    char *authorization; // his, or ""
    const char *forwarded_for;
} tob_rpc_request;

//   caller   whom it is made for; NULL: ourselves. Copied.
// Errors: TOB_TOO_LARGE, TOB_NO_MEMORY. ret has one reference: tob_rpc_request_release.
TOB_MUST_USE tob_error tob_rpc_request_new(tob_rpc_encoder *encoder, const char *method, const void *body,
                                           size_t body_len, const tob_rpc_caller *caller,
                                           tob_rpc_request **ret);
tob_rpc_request *tob_rpc_request_hold(tob_rpc_request *request);
void tob_rpc_request_release(tob_rpc_request *request); // NULL is fine

// tob_rpc_request_message packs the envelope.
//   authorization   ours: "Bearer TOKEN", or ""
// Errors: TOB_TOO_LARGE, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_request_message(const tob_rpc_request *request, const char *authorization,
                                               uint32_t timeout_ms, nng_msg **ret);

#endif
