#include <string.h>

#include "agent/client_sampler.h"
#include "agent/headend_sampler.h"
#include "agent/run.h"
#include "util/clock.h"
#include "util/daemon.h"
#include "util/log.h"

// The sampler of the mode that runs; the other is NULL.
typedef struct samplers {
    tob_client_sampler *client;
    tob_headend_sampler *headend;
} samplers;

static tob_error new_samplers(const tob_agent_settings *settings, samplers *ret, tob_problem *ret_problem) {
    *ret = (samplers){0};
    if (settings->kind == TOB_SOURCE_HEADEND) {
        const tob_headend_sampler_options options = {.root = settings->root,
                                                     .interface = settings->interface,
                                                     .ports = settings->ports};
        return tob_headend_sampler_new(&options, &ret->headend, ret_problem);
    }
    tob_error err = tob_client_sampler_new(settings->root, settings->interface, &ret->client);
    return err ? tob_problem_set(ret_problem, err, "%s: %s", settings->interface, tob_error_string(err))
               : TOB_OK;
}

static void free_samplers(samplers *s) {
    tob_client_sampler_free(s->client);
    tob_headend_sampler_free(s->headend);
}

static tob_error take_sample(const tob_agent_settings *settings, samplers *from, tob_sender *sender,
                             tob_problem *ret_problem) {
    tob_agent_report report = {.kind = settings->kind,
                               .id = settings->id,
                               .credential = settings->credential,
                               .name = settings->name,
                               .headless = settings->headless};
    tob_error err = settings->kind == TOB_SOURCE_CLIENT
                        ? tob_client_sampler_read(from->client, &report.sample.client, ret_problem)
                        : tob_headend_sampler_read(from->headend, &report.sample.headend, ret_problem);
    if (err) {
        return err;
    }
    err = tob_sender_push(sender, &report, true);
    return err ? tob_problem_set(ret_problem, err, "%s", tob_error_string(err)) : TOB_OK;
}

// Logs the first failure of a row, and the end of it.
static void log_sampling(tob_error err, const tob_problem *problem, tob_problem *last) {
    if (err && strcmp(problem->text, last->text) != 0) {
        tob_err("sample_failed", TOB_STR("reason", problem->text));
        *last = *problem;
    } else if (!err && *last->text) {
        tob_info("sample_recovered");
        last->text[0] = 0;
    }
}

// Waits until a monotonic time. False when it is time to stop.
static bool wait_until(tob_agent_settings *settings, uint64_t at_ms) {
    for (;;) {
        uint64_t now = tob_clock_monotonic_ms();
        if (now >= at_ms) {
            return true;
        }
        switch (tob_daemon_wait_or_watch(settings->watch, at_ms - now)) {
        case TOB_SIGNAL_STOP: return false;
        case TOB_SIGNAL_RELOAD: tob_agent_reload(settings); break;
        case TOB_SIGNAL_TICK: break;
        }
    }
}

// Rates need a reading before the first sample. False when it is time to stop.
static bool take_baseline(tob_agent_settings *settings, samplers *from, tob_problem *last) {
    if (!from->headend) {
        return true;
    }
    tob_headend_sample unused;
    tob_problem problem = {""};
    log_sampling(tob_headend_sampler_read(from->headend, &unused, &problem), &problem, last);
    return wait_until(settings, tob_clock_monotonic_ms() + TOB_AGENT_BASELINE_MS);
}

static int run_once(tob_agent_settings *settings, samplers *from, tob_sender *sender) {
    tob_problem problem = {""};
    if (!take_baseline(settings, from, &problem)) {
        return 1;
    }
    tob_error err = take_sample(settings, from, sender, &problem);
    if (err) {
        tob_err("sample_failed", TOB_STR("reason", problem.text));
        return 1;
    }
    bool answered = tob_agent_flush(sender, settings->deadline_ms);
    if (!answered) {
        tob_err("not_acknowledged", TOB_STR("server", settings->server),
                TOB_UINT("deadline_ms", settings->deadline_ms));
    }
    return answered && tob_sender_statistics(sender).acked > 0 ? 0 : 1;
}

static int run_until_stopped(tob_agent_settings *settings, samplers *from, tob_sender *sender) {
    tob_problem problem = {""};
    tob_problem last = {""};
    bool go_on = take_baseline(settings, from, &last);
    uint64_t next = tob_clock_monotonic_ms();
    while (go_on) {
        tob_error err = take_sample(settings, from, sender, &problem);
        log_sampling(err, &problem, &last);
        uint64_t now = tob_clock_monotonic_ms();
        next += settings->sample_interval_ms;
        next = next < now ? now : next; // after a suspended machine: no burst
        go_on = wait_until(settings, next);
    }
    tob_daemon_notify("STOPPING=1");
    tob_agent_flush(sender, TOB_AGENT_STOP_MS);
    return 0;
}

int tob_agent_run_sampling(tob_agent_settings *settings, tob_sender *sender) {
    samplers from;
    tob_problem problem = {""};
    if (new_samplers(settings, &from, &problem)) {
        tob_err("bad_configuration", TOB_STR("reason", problem.text));
        return TOB_EXIT_USAGE;
    }
    int status =
        settings->once ? run_once(settings, &from, sender) : run_until_stopped(settings, &from, sender);
    free_samplers(&from);
    return status;
}
