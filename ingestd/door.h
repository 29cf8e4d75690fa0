// tob_door guards the methods that need a process's or an admin's token, and counts who knocks (auth_attempts_total). A right
// token opens it from any address; wrong ones slow their address down (limiter.h).
//
// Threads: any.
#ifndef TOB_INGESTD_DOOR_H
#define TOB_INGESTD_DOOR_H

#include <stdbool.h>

#include "ingestd/limiter.h"
#include "rpc/process.h"
#include "rpc/server.h"
#include "util/secret.h"

typedef struct tob_door {
    tob_secrets *secrets; // borrowed
    tob_limiter *limiter; // borrowed; NULL: nobody is slowed down
    const char *token;    // what the token is called in messages: "CLUSTER_TOKEN"
    const char *type;
    tob_counter *success;
    tob_counter *failure;
    tob_counter *limited;
} tob_door;

// type: the label of auth_attempts_total: "admin" or "cluster"; static text.
void tob_door_init(tob_door *door, tob_secrets *secrets, const char *token, const char *type,
                   tob_limiter *limiter, tob_process *process);

// tob_door_open: is the caller let in? When not, the call has been answered UNAUTHENTICATED.
TOB_MUST_USE bool tob_door_open(const tob_door *door, tob_rpc_call *call);

// The two halves of it. tob_door_fits: is it a token of this door's? Counts a success only.
//   ret_name   of the token, as tob_secrets_match_named
TOB_MUST_USE bool tob_door_fits(const tob_door *door, const tob_rpc_call *call,
                                char ret_name[TOB_SECRET_NAME_BYTES]);
// tob_door_refuse counts a failure and answers the call.
void tob_door_refuse(const tob_door *door, tob_rpc_call *call);

#endif
