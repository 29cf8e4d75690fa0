#include "rpc/pending.h"

#include <stdio.h>
#include <stdlib.h>

#include "rpc/attempt.h"
#include "util/clock.h"

enum { BUSY_MS = 20 }; // until a connection that took no more is tried again

// One attempt that is under way.
struct tob_rpc_attempt {
    tob_rpc_pending *call;
    tob_rpc_remote *remote;
    uint64_t generation; // of the connection
    struct tob_rpc_attempt *next;
};

// A server's refusal holds for one connection: it may have been started again since.
struct tob_rpc_refusal {
    uint64_t server;
    uint64_t generation;
};

void tob_rpc_pending_release(tob_rpc_pending *c) {
    if (--c->references == 0) {
        tob_rpc_request_release(c->request);
        free(c->refusals);
        free(c);
    }
}

// The lock is held, but not while `done` runs.
static void finish(tob_rpc_pending *c, const tob_rpc_result *result) {
    tob_rpc_client *client = c->client;
    c->finished = true;
    if (c->previous) {
        c->previous->next = c->next;
    } else {
        client->calls = c->next;
    }
    if (c->next) {
        c->next->previous = c->previous;
    }
    client->in_flight--;
    client->busy++;
    pthread_mutex_unlock(&client->lock);
    c->done(c->user, result);
    pthread_mutex_lock(&client->lock);
    client->busy--;
    pthread_cond_broadcast(&client->idle);
    tob_rpc_pending_release(c); // the client's
}

void tob_rpc_pending_finish_failed(tob_rpc_pending *c, tob_error error, const char *message) {
    finish(c, &(tob_rpc_result){.error = error,
                                .message = message,
                                .sent = c->sent || c->attempts,
                                .server = c->last_server});
}

static void finish_refused(tob_rpc_pending *c) {
    finish(c, &(tob_rpc_result){.error = c->refused,
                                .message = c->message,
                                .retry_after_ms = c->retry_after_ms,
                                .answered = true,
                                .sent = true,
                                .server = c->last_server});
}

void tob_rpc_pending_finish_late(tob_rpc_pending *c) {
    if (c->refused && !c->attempts) {
        finish_refused(c);
    } else {
        bool connected = tob_rpc_servers_connected(&c->client->servers) > 0;
        tob_rpc_pending_finish_failed(c, TOB_DEADLINE,
                                      connected ? "no answer in time" : "not connected to the server");
    }
}

// A server does not get a call twice at once, nor again once it has refused it.
static bool excluded(const void *arg, const tob_rpc_remote *remote) {
    const tob_rpc_pending *c = arg;
    if (c->to && c->to != remote->id) {
        return true;
    }
    for (const tob_rpc_attempt *a = c->attempts; a; a = a->next) {
        if (a->remote == remote) {
            return true;
        }
    }
    for (size_t i = 0; i < c->refusal_count; i++) {
        if (c->refusals[i].server == remote->id &&
            c->refusals[i].generation == tob_rpc_connection_generation(remote->connection)) {
            return true;
        }
    }
    return false;
}

static void wake_by(tob_rpc_client *client, uint64_t at_ms) {
    if (at_ms < client->wake_ms) {
        client->wake_ms = at_ms;
        pthread_cond_signal(&client->wake);
    }
}

// No server can be asked now: wait for one, or give up.
static void wait_for_server(tob_rpc_pending *c) {
    tob_rpc_client *client = c->client;
    uint64_t now = tob_clock_monotonic_ms();
    if (c->attempts) {
        return; // one may answer still
    }
    if (c->to) {
        tob_rpc_pending_finish_failed(c, TOB_UNAVAILABLE, "not connected to the server");
        return;
    }
    if (c->refused && tob_rpc_servers_connected(&client->servers) > 0) {
        uint64_t give_up_ms = c->refused_ms + TOB_RPC_REFUSED_WAIT_MS;
        if (c->refused != TOB_UNAVAILABLE || give_up_ms <= now ||
            !tob_rpc_servers_one_is_away(&client->servers)) {
            finish_refused(c);
            return;
        }
        c->again_ms = give_up_ms;
    } else if (tob_rpc_servers_connected(&client->servers) > 0) {
        c->again_ms = now + BUSY_MS; // full, or just broken
    }
    wake_by(client, c->again_ms < c->deadline_ms ? c->again_ms : c->deadline_ms);
}

static void on_attempt(void *user, const tob_rpc_result *result);

// Takes an attempt that ended off its call and its server.
static void attempt_end(tob_rpc_attempt *a) {
    tob_rpc_attempt **at = &a->call->attempts;
    while (*at != a) {
        at = &(*at)->next;
    }
    *at = a->next;
    a->remote->in_flight--;
    tob_rpc_pending_release(a->call);
    free(a);
}

static tob_rpc_attempt *attempt_new(tob_rpc_pending *c, tob_rpc_remote *remote) {
    tob_rpc_attempt *a = malloc(sizeof(*a));
    if (a) {
        *a = (tob_rpc_attempt){.call = c,
                               .remote = remote,
                               .generation = tob_rpc_connection_generation(remote->connection),
                               .next = c->attempts};
        c->attempts = a;
        c->references++;
        c->last_server = remote->id;
        remote->in_flight++;
    }
    return a;
}

// Sends to this server. False when it can't be asked (now).
static bool try_server(tob_rpc_pending *c, tob_rpc_remote *remote) {
    tob_rpc_client *client = c->client;
    tob_rpc_attempt *a = attempt_new(c, remote);
    if (!a) {
        tob_rpc_pending_finish_failed(c, TOB_NO_MEMORY, "no memory for the call");
        return true;
    }
    tob_rpc_connection *connection = remote->connection;
    uint64_t generation = a->generation;
    pthread_mutex_unlock(&client->lock);
    tob_error err = tob_rpc_connection_send(connection, c->request, c->deadline_ms, false, on_attempt, a);
    pthread_mutex_lock(&client->lock);
    if (!err) {
        return true; // `a` may be gone
    }
    attempt_end(a);
    if (err == TOB_BUSY) {
        remote->busy_until_ms = tob_clock_monotonic_ms() + BUSY_MS;
    } else if (err == TOB_UNAVAILABLE || err == TOB_CANCELLED) {
        remote->broken_generation = generation;
    } else if (!c->finished) {
        tob_rpc_pending_finish_failed(c, err, tob_error_string(err));
    }
    return false;
}

// Servers that are merely slow must not get many times the work.
static bool asked_enough(const tob_rpc_pending *c) {
    size_t count = 0;
    for (const tob_rpc_attempt *a = c->attempts; a; a = a->next) {
        count++;
    }
    return count >= TOB_RPC_MAX_ASKED;
}

void tob_rpc_pending_ask(tob_rpc_pending *c) {
    bool asked = false;
    c->looked = c->client->changes;
    c->again_ms = UINT64_MAX;
    while (!asked && !c->finished && !c->client->stopped && !asked_enough(c)) {
        tob_rpc_remote *remote = tob_rpc_servers_pick(&c->client->servers, excluded, c);
        if (!remote) {
            wait_for_server(c);
            return;
        }
        c->silent_at_ms = c->once ? UINT64_MAX : tob_clock_monotonic_ms() + c->patience_ms;
        c->silent = false;
        wake_by(c->client, c->silent_at_ms < c->deadline_ms ? c->silent_at_ms : c->deadline_ms);
        asked = try_server(c, remote);
    }
}

static bool is_refusal(const tob_rpc_result *result) {
    return result->answered && (result->error == TOB_UNAVAILABLE || result->error == TOB_BUSY);
}

// Remembers a refusal. False without the memory for it.
static bool note_refusal(tob_rpc_pending *c, const tob_rpc_attempt *a, const tob_rpc_result *result) {
    tob_rpc_refusal *refusals = realloc(c->refusals, (c->refusal_count + 1) * sizeof(*refusals));
    if (!refusals) {
        return false;
    }
    c->refusals = refusals;
    refusals[c->refusal_count++] = (tob_rpc_refusal){.server = a->remote->id, .generation = a->generation};
    c->refused = result->error;
    c->refused_ms = tob_clock_monotonic_ms();
    c->retry_after_ms = result->retry_after_ms;
    c->last_server = a->remote->id;
    snprintf(c->message, sizeof(c->message), "%s", result->message);
    return true;
}

// What the end of an attempt means for its call.
typedef enum verdict { ENDED, ASK_AGAIN, OTHERS_MAY_ANSWER } verdict;

static verdict judge(tob_rpc_pending *c, const tob_rpc_attempt *a, const tob_rpc_result *result) {
    bool refused = is_refusal(result);
    bool lost = !result->answered && result->error == TOB_UNAVAILABLE;
    bool late = !result->answered && result->error == TOB_DEADLINE;
    bool others = a->next || c->attempts != a;
    if (late && others) {
        return OTHERS_MAY_ANSWER;
    }
    if (lost && !c->to && !(c->once && result->sent)) {
        return ASK_AGAIN;
    }
    return refused && !c->once && note_refusal(c, a, result) ? ASK_AGAIN : ENDED;
}

static void end(tob_rpc_pending *c, const tob_rpc_result *result) {
    tob_rpc_result said = *result;
    if (c->once && !result->answered && result->sent && result->error == TOB_UNAVAILABLE) {
        said.message = "the connection to the server broke; the call may have been carried out";
    }
    finish(c, &said);
}

static void on_attempt(void *user, const tob_rpc_result *result) {
    tob_rpc_attempt *a = user;
    tob_rpc_pending *c = a->call;
    tob_rpc_client *client = c->client;
    pthread_mutex_lock(&client->lock);
    c->references++;
    c->sent = c->sent || result->sent;
    if (result->answered) {
        tob_rpc_servers_answered(&client->servers, a->remote);
    } else if (result->error == TOB_UNAVAILABLE) {
        a->remote->broken_generation = a->generation;
    }
    bool stopped = client->stopped && !result->answered; // then _stop ends it
    verdict v = c->finished || stopped ? OTHERS_MAY_ANSWER : judge(c, a, result);
    attempt_end(a); // before the callback, which may start the next call: this server is free again
    if (client->servers.removed && !client->reap) {
        client->reap = true;
        pthread_cond_signal(&client->wake);
    }
    if (v == ENDED) {
        end(c, result);
    } else if (v == ASK_AGAIN) {
        tob_rpc_pending_ask(c);
    }
    tob_rpc_pending_release(c);
    pthread_mutex_unlock(&client->lock);
}

// The servers that have been asked are silent: another one is asked as well.
void tob_rpc_pending_ask_another(tob_rpc_pending *c, uint64_t now) {
    c->silent_at_ms = UINT64_MAX;
    c->silent = true;
    for (tob_rpc_attempt *a = c->attempts; a; a = a->next) {
        a->remote->suspect_until_ms = now + TOB_RPC_SUSPECT_MS;
    }
    tob_rpc_pending_ask(c);
}
