// The public library: the sender behind a stable interface.
#include <stdio.h>
#include <stdlib.h>

#include "tobogganing/agent.h"

#include "agent/sender.h"
#include "util/clock.h"
#include "util/random.h"

enum { CALL_TIMEOUT_MS = 10000, DEFAULT_MAX_QUEUED = 100000, PROBLEM_BYTES = 512 };

struct tob_agent {
    tob_sender *sender;
    void (*on_problem)(void *user, const char *text);
    void *user;
};

static tob_agent_status status_of(tob_error error) {
    switch (error) {
    case TOB_OK: return TOB_AGENT_OK;
    case TOB_INVALID:
    case TOB_TOO_LARGE: return TOB_AGENT_INVALID;
    case TOB_BUSY: return TOB_AGENT_FULL;
    case TOB_DEADLINE: return TOB_AGENT_TIMEOUT;
    case TOB_NO_MEMORY: return TOB_AGENT_NO_MEMORY;
    case TOB_MALFORMED:
    case TOB_UNAUTHENTICATED:
    case TOB_PERMISSION_DENIED:
    case TOB_NOT_FOUND:
    case TOB_ALREADY_EXISTS:
    case TOB_PRECONDITION:
    case TOB_ABORTED:
    case TOB_OUT_OF_RANGE:
    case TOB_UNIMPLEMENTED:
    case TOB_UNAVAILABLE:
    case TOB_CANCELLED:
    case TOB_IO:
    case TOB_DAMAGED:
    case TOB_INTERNAL: return TOB_AGENT_FAILED;
    }
    return TOB_AGENT_FAILED;
}

static const char *what_happened(tob_sender_event_kind kind) {
    switch (kind) {
    case TOB_SENDER_ACKED: return NULL;
    case TOB_SENDER_REJECTED: return "the server refused a series";
    case TOB_SENDER_FAILED: return "a batch was not acknowledged and is sent again";
    case TOB_SENDER_DISCARDED: return "the server refused a batch for good";
    case TOB_SENDER_DROPPED: return "the queue was full";
    }
    return NULL;
}

static void on_event(void *user, const tob_sender_event *event) {
    const tob_agent *agent = user;
    const char *what = what_happened(event->kind);
    if (!what || !agent->on_problem) {
        return;
    }
    char text[PROBLEM_BYTES];
    snprintf(text, sizeof(text), "%s%s%s: %s", what, event->part ? " of " : "",
             event->part ? event->part->id : "",
             *event->message ? event->message : tob_error_string(event->error));
    agent->on_problem(agent->user, text);
}

tob_agent_status tob_agent_open(const tob_agent_options *options, tob_agent **ret) {
    if (!options || !options->server || !options->agent_id) {
        return TOB_AGENT_INVALID;
    }
    tob_agent *agent = calloc(1, sizeof(*agent));
    if (!agent) {
        return TOB_AGENT_NO_MEMORY;
    }
    agent->on_problem = options->on_problem;
    agent->user = options->user;
    const tob_sender_options sender = {.server = options->server,
                                       .agent_id = options->agent_id,
                                       .boot_id = tob_random_u64(),
                                       .interval_ms = options->batch_interval_ms,
                                       .call_timeout_ms = CALL_TIMEOUT_MS,
                                       .max_queued =
                                           options->max_queued ? options->max_queued : DEFAULT_MAX_QUEUED,
                                       .on_event = on_event,
                                       .user = agent};
    tob_error err = tob_sender_new(&sender, &agent->sender);
    if (!err) {
        err = tob_sender_start(agent->sender);
    }
    if (err) {
        tob_sender_free(agent->sender);
        free(agent);
        return status_of(err);
    }
    *ret = agent;
    return TOB_AGENT_OK;
}

static int64_t time_or_now(int64_t time_unix_ms) {
    return time_unix_ms ? time_unix_ms : (int64_t)tob_clock_unix_ms();
}

tob_agent_status tob_agent_record_client(tob_agent *agent, const char *client_id, const char *api_key,
                                         int headless, const tob_agent_client_sample *s) {
    const tob_agent_report report = {
        .kind = TOB_SOURCE_CLIENT,
        .id = client_id,
        .credential = api_key,
        .headless = headless != 0,
        .sample.client = {.time_unix_ms = time_or_now(s->time_unix_ms),
                          .present = s->present & ((1u << TOB_CLIENT_METRICS) - 1),
                          .values = {[TOB_CLIENT_BYTES_SENT] = s->bytes_sent,
                                     [TOB_CLIENT_BYTES_RECEIVED] = s->bytes_received,
                                     [TOB_CLIENT_PACKETS_SENT] = s->packets_sent,
                                     [TOB_CLIENT_PACKETS_RECEIVED] = s->packets_received,
                                     [TOB_CLIENT_CONNECTION_UPTIME] = s->connection_uptime_ms}}};
    return status_of(tob_sender_push(agent->sender, &report, false));
}

tob_agent_status tob_agent_record_headend(tob_agent *agent, const char *headend_id, const char *token,
                                          const char *name, const tob_agent_headend_sample *s) {
    const tob_agent_report report = {
        .kind = TOB_SOURCE_HEADEND,
        .id = headend_id,
        .credential = token,
        .name = name,
        .sample.headend = {.time_unix_ms = time_or_now(s->time_unix_ms),
                           .present = s->present & ((1u << TOB_HEADEND_METRICS) - 1),
                           .values = {[TOB_HEADEND_ACTIVE_CONNECTIONS] = s->active_connections,
                                      [TOB_HEADEND_BANDWIDTH_IN] = s->bandwidth_in,
                                      [TOB_HEADEND_BANDWIDTH_OUT] = s->bandwidth_out,
                                      [TOB_HEADEND_CPU_USAGE] = s->cpu_usage,
                                      [TOB_HEADEND_MEMORY_USAGE] = s->memory_usage}}};
    return status_of(tob_sender_push(agent->sender, &report, false));
}

tob_agent_status tob_agent_flush(tob_agent *agent, uint64_t timeout_ms) {
    tob_sender_hurry(agent->sender);
    tob_error err = tob_sender_wait_idle(agent->sender, timeout_ms);
    tob_sender_relax(agent->sender);
    return status_of(err);
}

void tob_agent_get_statistics(tob_agent *agent, tob_agent_statistics *ret) {
    tob_sender_stats stats = tob_sender_statistics(agent->sender);
    *ret = (tob_agent_statistics){.recorded = stats.pushed,
                                  .acknowledged = stats.acked,
                                  .rejected = stats.rejected,
                                  .waiting = stats.waiting};
}

tob_agent_status tob_agent_close(tob_agent *agent, uint64_t timeout_ms) {
    if (!agent) {
        return TOB_AGENT_OK;
    }
    tob_agent_status status = tob_agent_flush(agent, timeout_ms);
    tob_sender_stop(agent->sender);
    tob_sender_free(agent->sender);
    free(agent);
    return status;
}
