#include "agent/sender.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/schedule.h"
#include "rpc/client.h"
#include "rpc/status.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/random.h"

#define SUBMIT     "/tobogganing.v1.Ingest/Submit"
#define MAX_REASON 256
#define MAX_PACKED TOB_MAX_BATCH_BYTES

// How long _stop lets the call under way end by itself.
enum { GRACE_MS = 300 };

// The batch that is under way: packed once, sent until it is answered.
typedef struct outbox {
    tob_buffer packed;
    uint64_t number;
    tob_batch_part *parts;
    size_t part_count;
    size_t samples;   // 0: empty
    unsigned limited; // how often a part of it was not looked at
} outbox;

// How the call under way ended.
typedef struct answer {
    bool arrived;
    tob_error error;
    char message[TOB_RPC_MESSAGE_BYTES];
    uint32_t retry_after_ms;
    Tobogganing__V1__SubmitResponse *response; // TOB_OK
} answer;

struct tob_sender {
    tob_sender_options options;
    tob_rpc_client *client;
    tob_batch_builder *builder;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; // everything below
    pthread_cond_t changed;
    bool stopping;
    bool calling; // the thread is in `call`
    bool hurry;
    tob_queue *queue;
    tob_schedule schedule;
    outbox out;
    answer in;
    uint64_t last_number;
    tob_sender_stats stats;
};

tob_error tob_sender_new(const tob_sender_options *options, tob_sender **ret) {
    tob_sender *sender = calloc(1, sizeof(*sender));
    if (!sender) {
        return TOB_NO_MEMORY;
    }
    sender->options = *options;
    tob_buffer_init(&sender->out.packed, MAX_PACKED);
    tob_schedule_init(&sender->schedule, options->interval_ms, tob_random_below, tob_clock_monotonic_ms());
    pthread_mutex_init(&sender->lock, NULL);
    tob_cond_init(&sender->changed);
    tob_error err = tob_queue_new(options->max_queued, &sender->queue);
    if (!err) {
        err = tob_batch_builder_new(options->agent_id, options->boot_id, TOB_SENDER_MAX_BATCH_BYTES,
                                    &sender->builder);
    }
    if (!err) {
        tob_rpc_client_options rpc = {.urls = options->server,
                                      .max_in_flight = 1,
                                      .compress = true,
                                      .repeatable = true};
        err = tob_rpc_client_new(&rpc, &sender->client);
    }
    if (err) {
        tob_sender_free(sender);
        return err;
    }
    *ret = sender;
    return TOB_OK;
}

static void clear_outbox(tob_sender *sender) {
    free(sender->out.parts);
    sender->out.parts = NULL;
    sender->out.part_count = 0;
    sender->out.samples = 0;
    sender->out.limited = 0;
    tob_buffer_clear(&sender->out.packed);
}

static void clear_answer(tob_sender *sender) {
    if (sender->in.response) {
        tobogganing__v1__submit_response__free_unpacked(sender->in.response, NULL);
    }
    sender->in = (answer){0};
}

void tob_sender_free(tob_sender *sender) {
    if (!sender) {
        return;
    }
    tob_rpc_client_free(sender->client);
    tob_batch_builder_free(sender->builder);
    tob_queue_free(sender->queue);
    clear_outbox(sender);
    clear_answer(sender);
    tob_buffer_fini(&sender->out.packed);
    pthread_cond_destroy(&sender->changed);
    pthread_mutex_destroy(&sender->lock);
    free(sender);
}

static void emit(const tob_sender *sender, tob_sender_event event) {
    event.message = event.message ? event.message : "";
    if (sender->options.on_event) {
        sender->options.on_event(sender->options.user, &event);
    }
}

static bool idle(const tob_sender *sender) {
    return tob_queue_count(sender->queue) == 0 && sender->out.samples == 0;
}

// When the thread has something to do, monotonic milliseconds; UINT64_MAX: when something changes.
static uint64_t wake_at(const tob_sender *sender) {
    if (idle(sender)) {
        return UINT64_MAX;
    }
    bool full =
        tob_queue_count(sender->queue) >= TOB_SENDER_MAX_BATCH_SAMPLES || tob_queue_full(sender->queue);
    bool at_once = sender->schedule.failures == 0 && (sender->hurry || full);
    return at_once ? 0 : sender->schedule.due_ms;
}

// Moves the oldest samples from the queue into the outbox. One that can't be sent at all is lost.
static tob_error load_outbox(tob_sender *sender) {
    outbox *out = &sender->out;
    size_t samples = 0;
    tob_error err = tob_queue_build(sender->queue, TOB_SENDER_MAX_BATCH_SAMPLES, sender->builder, &out->parts,
                                    &out->part_count, &samples);
    if (!err) {
        err = tob_batch_pack(sender->builder, sender->last_number + 1, &out->packed);
    }
    tob_batch_clear(sender->builder);
    if (err) {
        clear_outbox(sender);
        return err;
    }
    out->samples = tob_queue_drop_oldest(sender->queue, samples);
    out->number = ++sender->last_number;
    return TOB_OK;
}

static void on_answer(void *user, const tob_rpc_result *result) {
    tob_sender *sender = user;
    tob_error err = result->error;
    Tobogganing__V1__SubmitResponse *response = NULL;
    if (!err) {
        response = tobogganing__v1__submit_response__unpack(NULL, result->body_len, result->body);
        err = response ? TOB_OK : TOB_MALFORMED;
    }
    pthread_mutex_lock(&sender->lock);
    answer *in = &sender->in;
    *in = (answer){.arrived = true,
                   .error = err,
                   .retry_after_ms = result->retry_after_ms,
                   .response = response};
    size_t n = strnlen(result->message ? result->message : "", sizeof(in->message) - 1);
    memcpy(in->message, n ? result->message : "", n);
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

// Sends the outbox and waits for the answer: there always is one, by the call's deadline or by _stop.
static void call(tob_sender *sender) {
    clear_answer(sender);
    sender->calling = true;
    // The callback may come before the call returns. `out` is changed by this thread only.
    pthread_mutex_unlock(&sender->lock);
    tob_error err =
        tob_rpc_client_call(sender->client, SUBMIT, sender->out.packed.data, sender->out.packed.len,
                            (uint32_t)sender->options.call_timeout_ms, on_answer, sender);
    pthread_mutex_lock(&sender->lock);
    if (err) {
        sender->in = (answer){.arrived = true, .error = err};
    }
    while (!sender->in.arrived) {
        pthread_cond_wait(&sender->changed, &sender->lock);
    }
    sender->calling = false;
}

static void take_rejections(tob_sender *sender, size_t *ret_samples) {
    const Tobogganing__V1__SubmitResponse *response = sender->in.response;
    size_t samples = 0;
    for (size_t i = 0; i < response->n_rejected; i++) {
        const Tobogganing__V1__Rejection *r = response->rejected[i];
        if (r->series >= sender->out.part_count) {
            continue; // not a series of this batch
        }
        const tob_batch_part *part = &sender->out.parts[r->series];
        samples += part->samples;
        emit(sender, (tob_sender_event){.kind = TOB_SENDER_REJECTED,
                                        .batch = sender->out.number,
                                        .samples = part->samples,
                                        .error = tob_status_error(r->code),
                                        .message = r->reason,
                                        .part = part});
    }
    *ret_samples = samples < sender->out.samples ? samples : sender->out.samples;
}

static void acked(tob_sender *sender) {
    size_t rejected = 0;
    take_rejections(sender, &rejected);
    sender->stats.rejected += rejected;
    sender->stats.acked += sender->out.samples - rejected;
    emit(sender, (tob_sender_event){.kind = TOB_SENDER_ACKED,
                                    .batch = sender->out.number,
                                    .samples = sender->out.samples - rejected,
                                    .bytes = sender->out.packed.len,
                                    .failures = sender->schedule.failures});
    tob_schedule_succeeded(&sender->schedule, tob_clock_monotonic_ms(),
                           sender->in.response->next_report_in_ms);
    clear_outbox(sender);
}

// Repeating these as they are can't help.
static bool for_good(tob_error error) {
    return error == TOB_INVALID || error == TOB_UNAUTHENTICATED || error == TOB_PERMISSION_DENIED ||
           error == TOB_NOT_FOUND || error == TOB_TOO_LARGE;
}

static void discarded(tob_sender *sender, tob_error error, const char *message, size_t samples) {
    sender->stats.rejected += samples;
    emit(sender, (tob_sender_event){.kind = TOB_SENDER_DISCARDED,
                                    .batch = sender->out.number,
                                    .samples = samples,
                                    .error = error,
                                    .message = message});
    tob_schedule_succeeded(&sender->schedule, tob_clock_monotonic_ms(), 0);
    clear_outbox(sender);
}

static void failed(tob_sender *sender, tob_error error, const char *message, uint64_t retry_after_ms) {
    uint64_t now = tob_clock_monotonic_ms();
    tob_schedule_failed(&sender->schedule, now, retry_after_ms);
    if (!sender->stopping) {
        emit(sender, (tob_sender_event){.kind = TOB_SENDER_FAILED,
                                        .batch = sender->out.number,
                                        .samples = sender->out.samples,
                                        .error = error,
                                        .message = message,
                                        .failures = sender->schedule.failures,
                                        .retry_in_ms = sender->schedule.due_ms - now});
    }
}

// A credential that was not looked at, because too many wrong ones came from our address, may be a right one: the batch is
// sent again, for as long as it takes. But not so long when other parts of it were answered, since what comes after those
// has to wait too.
static bool is_limited(tob_sender *sender) {
    const Tobogganing__V1__SubmitResponse *response = sender->in.response;
    const Tobogganing__V1__Rejection *limited = NULL;
    size_t count = 0;
    for (size_t i = 0; i < response->n_rejected; i++) {
        if (response->rejected[i]->retry_after_ms) {
            limited = response->rejected[i];
            count++;
        }
    }
    if (!limited || (count < sender->out.part_count && sender->out.limited == TOB_SENDER_LIMITED_REPEATS)) {
        return false;
    }
    sender->out.limited++;
    failed(sender, tob_status_error(limited->code), limited->reason, limited->retry_after_ms);
    return true;
}

static void send_once(tob_sender *sender) {
    if (sender->out.samples == 0) {
        tob_error err = load_outbox(sender);
        if (err == TOB_NO_MEMORY) {
            failed(sender, err, "no memory for a batch", 0);
        } else if (err) {
            discarded(sender, err, "a sample that does not fit a batch",
                      tob_queue_drop_oldest(sender->queue, 1));
        }
        if (err) {
            return;
        }
    }
    call(sender);
    if (!sender->in.error) {
        if (!is_limited(sender)) {
            acked(sender);
        }
    } else if (for_good(sender->in.error)) {
        discarded(sender, sender->in.error, sender->in.message, sender->out.samples);
    } else {
        failed(sender, sender->in.error, sender->in.message, sender->in.retry_after_ms);
    }
}

static void *run(void *arg) {
    tob_sender *sender = arg;
    pthread_mutex_lock(&sender->lock);
    while (!sender->stopping) {
        uint64_t at = wake_at(sender);
        if (at == UINT64_MAX) {
            pthread_cond_wait(&sender->changed, &sender->lock);
        } else if (at > tob_clock_monotonic_ms()) {
            tob_cond_wait_until(&sender->changed, &sender->lock, at);
        } else {
            send_once(sender);
            pthread_cond_broadcast(&sender->changed);
        }
    }
    pthread_mutex_unlock(&sender->lock);
    return NULL;
}

tob_error tob_sender_start(tob_sender *sender) {
    int e = pthread_create(&sender->thread, NULL, run, sender);
    sender->started = e == 0;
    return tob_error_from_errno(e);
}

tob_error tob_sender_push(tob_sender *sender, const tob_agent_report *report, bool drop_oldest) {
    pthread_mutex_lock(&sender->lock);
    if (drop_oldest && tob_queue_full(sender->queue)) {
        size_t dropped = tob_queue_drop_oldest(sender->queue, 1);
        sender->stats.dropped += dropped;
        emit(sender, (tob_sender_event){.kind = TOB_SENDER_DROPPED, .samples = dropped});
    }
    tob_error err = tob_queue_push(sender->queue, report);
    if (!err) {
        sender->stats.pushed++;
        pthread_cond_broadcast(&sender->changed);
    }
    pthread_mutex_unlock(&sender->lock);
    return err;
}

void tob_sender_hurry(tob_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    sender->hurry = true;
    tob_schedule_hurry(&sender->schedule, tob_clock_monotonic_ms());
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

void tob_sender_relax(tob_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    sender->hurry = false;
    pthread_mutex_unlock(&sender->lock);
}

tob_error tob_sender_wait_idle(tob_sender *sender, uint64_t timeout_ms) {
    uint64_t deadline = tob_clock_monotonic_ms() + timeout_ms;
    pthread_mutex_lock(&sender->lock);
    bool in_time = true;
    while (!idle(sender) && in_time) {
        in_time = tob_cond_wait_until(&sender->changed, &sender->lock, deadline);
    }
    tob_error err = idle(sender) ? TOB_OK : TOB_DEADLINE;
    pthread_mutex_unlock(&sender->lock);
    return err;
}

tob_sender_stats tob_sender_statistics(tob_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    tob_sender_stats stats = sender->stats;
    stats.waiting = tob_queue_count(sender->queue) + sender->out.samples;
    pthread_mutex_unlock(&sender->lock);
    return stats;
}

void tob_sender_stop(tob_sender *sender) {
    if (!sender || !sender->started) {
        return;
    }
    uint64_t grace_ends_ms = tob_clock_monotonic_ms() + GRACE_MS;
    bool in_time = true;
    pthread_mutex_lock(&sender->lock);
    sender->stopping = true;
    pthread_cond_broadcast(&sender->changed);
    while (sender->calling && in_time) {
        in_time = tob_cond_wait_until(&sender->changed, &sender->lock, grace_ends_ms);
    }
    pthread_mutex_unlock(&sender->lock);
    tob_rpc_client_stop(sender->client);
    pthread_join(sender->thread, NULL);
    sender->started = false;
}
