#include "ingestd/door.h"

#include <string.h>

void tob_door_init(tob_door *door, tob_secrets *secrets, const char *token, const char *type,
                   tob_process *process) {
    const Tobogganing__V1__CounterFamily family =
        TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    *door = (tob_door){.secrets = secrets,
                       .token = token,
                       .success = tob_process_counter(process, family, type, "success", NULL),
                       .failure = tob_process_counter(process, family, type, "failure", NULL)};
}

bool tob_door_open(const tob_door *door, tob_rpc_call *call) {
    const char *token = tob_rpc_call_bearer(call);
    if (token && tob_secrets_match(door->secrets, token, strlen(token))) {
        tob_counter_add(door->success, 1);
        return true;
    }
    tob_counter_add(door->failure, 1);
    tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "authorization: %s; this method needs \"Bearer\" and the %s",
                 token ? "the token is wrong" : "no token", door->token);
    return false;
}
