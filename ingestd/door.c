#include "ingestd/door.h"

#include <string.h>

#include "util/clock.h"

void tob_door_init(tob_door *door, tob_secrets *secrets, const char *token, const char *type,
                   tob_limiter *limiter, tob_process *process) {
    const Tobogganing__V1__CounterFamily family =
        TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    *door = (tob_door){.secrets = secrets,
                       .limiter = limiter,
                       .token = token,
                       .type = type,
                       .success = tob_process_counter(process, family, type, "success", NULL),
                       .failure = tob_process_counter(process, family, type, "failure", NULL),
                       .limited = tob_process_counter(process, family, type, "limited", NULL)};
}

bool tob_door_fits(const tob_door *door, const tob_rpc_call *call, char ret_name[TOB_SECRET_NAME_BYTES]) {
    const char *token = tob_rpc_call_bearer(call);
    if (!token || !tob_secrets_match_named(door->secrets, token, strlen(token), ret_name)) {
        return false;
    }
    tob_counter_add(door->success, 1);
    return true;
}

void tob_door_refuse(const tob_door *door, tob_rpc_call *call) {
    uint64_t now_ms = tob_clock_monotonic_ms(), retry_ms = 0;
    const char *peer = tob_rpc_call_peer(call);
    if (door->limiter && tob_limiter_failed(door->limiter, peer, now_ms, &retry_ms)) {
        tob_counter_add(door->limited, 1);
        tob_limiter_log(door->limiter, peer, door->type, now_ms);
        tob_rpc_fail(call, TOB_UNAUTHENTICATED, (uint32_t)retry_ms,
                     "authorization: too many wrong ones came from this address; try again later");
        return;
    }
    tob_counter_add(door->failure, 1);
    tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "authorization: %s; this method needs \"Bearer\" and the %s",
                 tob_rpc_call_bearer(call) ? "the token is wrong" : "no token", door->token);
}

bool tob_door_open(const tob_door *door, tob_rpc_call *call) {
    char name[TOB_SECRET_NAME_BYTES];
    if (tob_door_fits(door, call, name)) {
        return true;
    }
    tob_door_refuse(door, call);
    return false;
}
