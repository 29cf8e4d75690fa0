// tob_rpc_response is an answer, unpacked and inflated. Internal to lib/rpc.
//
// Threads: one at a time.
#ifndef TOB_RPC_RESPONSE_H
#define TOB_RPC_RESPONSE_H

#include <nng/nng.h>

#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/connection.h"
#include "util/error.h"

typedef struct tob_rpc_response {
    Tobogganing__V1__Response *message;
    uint8_t *inflated;
} tob_rpc_response;

// tob_rpc_response_read fills in how the call ended, a message that can't be read included.
//   ret          borrows from `response`
//   response     tob_rpc_response_fini afterwards, always
void tob_rpc_response_read(tob_rpc_response *response, const nng_msg *msg, tob_rpc_result *ret);
void tob_rpc_response_fini(tob_rpc_response *response);

#endif
