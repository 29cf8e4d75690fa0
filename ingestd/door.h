// tob_door guards the methods that need a process's or an admin's token, and counts who knocks.
//
// Threads: any.
#ifndef TOB_INGESTD_DOOR_H
#define TOB_INGESTD_DOOR_H

#include <stdbool.h>

#include "rpc/process.h"
#include "rpc/server.h"
#include "util/secret.h"

typedef struct tob_door {
    tob_secrets *secrets; // borrowed
    const char *token;    // what the token is called in messages: "CLUSTER_TOKEN"
    tob_counter *success;
    tob_counter *failure;
} tob_door;

// type: the label of auth_attempts_total: "admin" or "cluster".
void tob_door_init(tob_door *door, tob_secrets *secrets, const char *token, const char *type,
                   tob_process *process);

// tob_door_open: is the caller let in? When not, the call has been answered UNAUTHENTICATED.
TOB_MUST_USE bool tob_door_open(const tob_door *door, tob_rpc_call *call);

#endif
