#include "agent/run.h"

#include "rpc/status.h"
#include "util/clock.h"
#include "util/daemon.h"
#include "util/log.h"

static const char *code_name(tob_error error) {
    return tob_status_name(tob_status_code(error));
}

static void log_rejected(const tob_sender_event *e) {
    const tob_batch_part *part = e->part;
    const char *key = part->kind == TOB_SOURCE_CLIENT ? "client_id" : "headend_id";
    if (part->first_line == 0) {
        tob_err("series_rejected", TOB_STR(key, part->id), TOB_STR("code", code_name(e->error)),
                TOB_STR("reason", e->message), TOB_UINT("samples", e->samples));
    } else {
        tob_err("series_rejected", TOB_UINT("line", part->first_line), TOB_UINT("last_line", part->last_line),
                TOB_STR(key, part->id), TOB_STR("code", code_name(e->error)), TOB_STR("reason", e->message),
                TOB_UINT("samples", e->samples));
    }
}

void tob_agent_log_event(void *user, const tob_sender_event *e) {
    uint64_t *dropped = user;
    switch (e->kind) {
    case TOB_SENDER_ACKED:
        if (e->failures) {
            tob_info("submit_recovered", TOB_UINT("batch", e->batch), TOB_UINT("samples", e->samples),
                     TOB_UINT("failures", e->failures));
        } else {
            tob_debug("submitted", TOB_UINT("batch", e->batch), TOB_UINT("samples", e->samples),
                      TOB_UINT("bytes", e->bytes));
        }
        break;
    case TOB_SENDER_REJECTED: log_rejected(e); break;
    case TOB_SENDER_FAILED:
        tob_warn("submit_failed", TOB_UINT("batch", e->batch), TOB_STR("code", code_name(e->error)),
                 TOB_STR("reason", *e->message ? e->message : tob_error_string(e->error)),
                 TOB_UINT("failures", e->failures), TOB_UINT("retry_in_ms", e->retry_in_ms));
        break;
    case TOB_SENDER_DISCARDED:
        tob_err("batch_rejected", TOB_UINT("batch", e->batch), TOB_STR("code", code_name(e->error)),
                TOB_STR("reason", *e->message ? e->message : tob_error_string(e->error)),
                TOB_UINT("samples", e->samples));
        break;
    case TOB_SENDER_DROPPED:
        *dropped += e->samples;
        if ((*dropped & (*dropped - 1)) == 0) { // the 1st, 2nd, 4th …: a long outage is not a long log
            tob_warn("samples_dropped", TOB_UINT("samples_in_all", *dropped));
        }
        break;
    }
}

bool tob_agent_flush(tob_sender *sender, uint64_t timeout_ms) {
    enum { LOOK_FOR_SIGNALS_MS = 50 };
    uint64_t deadline = tob_clock_monotonic_ms() + timeout_ms;
    tob_sender_hurry(sender);
    for (;;) {
        uint64_t now = tob_clock_monotonic_ms();
        if (now >= deadline) {
            return false;
        }
        uint64_t slice = deadline - now < LOOK_FOR_SIGNALS_MS ? deadline - now : LOOK_FOR_SIGNALS_MS;
        if (tob_sender_wait_idle(sender, slice) == TOB_OK) {
            return true;
        }
        if (tob_daemon_wait(1) == TOB_SIGNAL_STOP) {
            return false;
        }
    }
}

void tob_agent_reload(tob_agent_settings *settings) {
    tob_error err = tob_agent_settings_reload(settings);
    if (err) {
        tob_err("reload_failed", TOB_STR("file", settings->secret_file), TOB_ERR(err));
    } else {
        tob_info("reloaded");
    }
}
