#include <stdarg.h>
#include <stdio.h>

#include "ingestd/registry_methods.h"
#include "util/clock.h"
#include "util/log.h"

static tob_registry *registry_of(const tob_registry_call *call) {
    return call->service->registry;
}

static void fail_aborted(tob_registry_call *call) {
    call->again = call->attempts + 1 < TOB_REGISTRY_MAX_ATTEMPTS;
    if (!call->again) {
        tob_err("registry_failed", TOB_ERR(TOB_ABORTED), TOB_UINT("attempts", call->attempts + 1),
                TOB_STR("problem", tob_registry_last_problem(registry_of(call))));
        tob_rpc_fail(call->call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS,
                     "other changes were always in the way; nothing was changed");
    }
}

static void fail_away(tob_registry_call *call, const char *what) {
    tob_registry_sync_set_away(call->service->sync, true);
    tob_rpc_fail(call->call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "%s", what);
}

void tob_registry_call_fail(tob_registry_call *call, tob_error err, const char *id_field, const char *what) {
    tob_error full = tob_arena_error(call->arena);
    if (full) {
        tob_rpc_fail(call->call, full, 0, "the answer: %s", tob_error_string(full));
    } else if (err == TOB_ALREADY_EXISTS) {
        tob_rpc_fail(call->call, err, 0, "%s: is taken", id_field);
    } else if (err == TOB_NOT_FOUND) {
        tob_rpc_fail(call->call, err, 0, "%s: no such %s", id_field, what);
    } else if (err == TOB_PRECONDITION) {
        tob_rpc_fail(call->call, err, 0, "%s: not possible for this %s as it is now", id_field, what);
    } else if (err == TOB_ABORTED) {
        fail_aborted(call);
    } else if (err == TOB_UNAVAILABLE) {
        fail_away(call, "the registry's database is away");
    } else {
        tob_err("registry_failed", TOB_ERR(err),
                TOB_STR("problem", tob_registry_last_problem(registry_of(call))));
        tob_rpc_fail(call->call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "the registry's database failed: %s",
                     tob_error_string(err));
    }
}

void tob_registry_call_refuse(tob_registry_call *call, tob_error err, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    tob_registry_rollback(registry_of(call));
    tob_rpc_fail(call->call, err, 0, "%s", text);
}

bool tob_registry_call_begin(tob_registry_call *call) {
    tob_error err = tob_registry_begin(registry_of(call), &call->actor, tob_clock_unix_ms());
    if (err) {
        tob_registry_call_fail(call, err, "", "");
    }
    return !err;
}

// It is in the database and could not be read back: others may see it before we do.
static void fail_sync(tob_registry_call *call, tob_error err) {
    if (err == TOB_UNAVAILABLE) {
        fail_away(call, "it is changed, but the registry's database went away before it was in effect here");
        return;
    }
    tob_err("registry_sync_failed", TOB_ERR(err),
            TOB_STR("problem", tob_registry_last_problem(registry_of(call))));
    tob_rpc_fail(call->call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS,
                 "it is changed, but not in effect here yet: %s", tob_error_string(err));
}

bool tob_registry_call_end(tob_registry_call *call, tob_error err, const char *id_field, const char *what) {
    if (err) {
        tob_registry_rollback(registry_of(call));
        tob_registry_call_fail(call, err, id_field, what);
        return false;
    }
    err = tob_registry_commit(registry_of(call));
    if (err == TOB_UNAVAILABLE) {
        fail_away(call,
                  "the registry's database went away: look whether it was changed before you try again");
        return false;
    }
    if (err) {
        tob_registry_call_fail(call, err, id_field, what);
        return false;
    }
    err = tob_registry_sync_run(call->service->sync);
    if (err) {
        fail_sync(call, err);
    }
    return !err;
}
