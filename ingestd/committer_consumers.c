// Bus.Commit, ListConsumers and ForgetConsumer: leases are taken at once, positions are durable with their group.
#include <inttypes.h>
#include <string.h>

#include "ingestd/committer_state.h"
#include "ingestd/positions.h"
#include "util/clock.h"

static const tob_consumer *find(const tob_committer *c, const char *name) {
    return tob_consumers_find(tob_store_consumers(c->store), name);
}

bool tob_committer_alone(const tob_committer *c, const tob_work *w) {
    return w->kind == TOB_WORK_FORGET || (w->kind == TOB_WORK_COMMIT && !find(c, w->of.commit->consumer));
}

static tob_position journal_end(const tob_committer *c) {
    tob_store_stats stats;
    tob_store_get_stats(c->store, &stats);
    return stats.end;
}

static tob_position journal_oldest(const tob_committer *c) {
    tob_store_stats stats;
    tob_store_get_stats(c->store, &stats);
    return stats.oldest;
}

// What is wrong with the request; NULL: nothing.
static const char *check(const Tobogganing__V1__CommitRequest *request) {
    if (!tob_id_valid(request->consumer, strlen(request->consumer))) {
        return "consumer: must be 1-128 bytes of [A-Za-z0-9._:-]";
    }
    if (request->holder == 0) {
        return "holder: must be random, not 0";
    }
    if (request->lease_ms != 0 &&
        (request->lease_ms < TOB_CONSUMER_MIN_LEASE_MS || request->lease_ms > TOB_CONSUMER_MAX_LEASE_MS)) {
        return "lease_ms: must be 0 or 1000-600000";
    }
    return NULL;
}

static bool place_valid(tob_committer *c, const tob_work *w) {
    const Tobogganing__V1__CommitRequest *request = w->of.commit;
    tob_position end = journal_end(c);
    if (request->instance != c->options.instance) {
        tob_rpc_fail(w->call, TOB_PRECONDITION, 0, "instance: this is the journal of %016" PRIx64,
                     c->options.instance);
        return false;
    }
    if (request->position && tob_position_compare(tob_position_of(request->position), end) > 0) {
        tob_rpc_fail(w->call, TOB_OUT_OF_RANGE, 0, "position: behind the journal's end %" PRIu64 ":%" PRIu64,
                     end.segment, end.offset);
        return false;
    }
    return true;
}

// A position is moved by who had the lease last, or takes it with the same call; the latter not back: he may know an old one
// only, and what another holder has done with since must not come again.
static bool may_move(const tob_consumer *known, const Tobogganing__V1__CommitRequest *request) {
    if (!known || !request->position || known->holder == request->holder) {
        return true;
    }
    return request->lease_ms != 0 &&
           tob_position_compare(tob_position_of(request->position), known->position) >= 0;
}

static bool held_by_another(const tob_consumer *known, uint64_t holder, uint64_t now_ms) {
    return known->holder && known->holder != holder && known->lease_until_ms > now_ms;
}

// Takes, renews or gives up the lease of a consumer that there is.
static bool take_lease(tob_committer *c, const tob_work *w) {
    const Tobogganing__V1__CommitRequest *request = w->of.commit;
    const tob_consumer *known = find(c, request->consumer);
    uint64_t now = tob_clock_monotonic_ms(), wait_ms = 0;
    if (known && !held_by_another(known, request->holder, now) && !may_move(known, request)) {
        tob_rpc_fail(w->call, TOB_ABORTED, 0,
                     "the lease of %s was another's since: take it without a position first",
                     request->consumer);
        return false;
    }
    tob_error err = tob_consumers_lease(tob_store_consumers(c->store), request->consumer, request->holder,
                                        now, request->lease_ms ? now + request->lease_ms : 0, &wait_ms);
    if (err == TOB_ABORTED) {
        tob_rpc_fail(w->call, err, (uint32_t)wait_ms, "another holder has the lease of %s",
                     request->consumer);
    } else if (err) {
        tob_rpc_fail(w->call, err, 0, "consumer: %s", tob_error_string(err));
    }
    return !err;
}

bool tob_committer_commit_add(tob_committer *c, const tob_work *w) {
    const Tobogganing__V1__CommitRequest *request = w->of.commit;
    const char *problem = check(request);
    if (problem) {
        tob_rpc_fail(w->call, TOB_INVALID, 0, "%s", problem);
        return false;
    }
    const tob_consumer *known = find(c, request->consumer);
    if (!place_valid(c, w)) {
        return false;
    }
    if (known && !take_lease(c, w)) {
        return false;
    }
    tob_position to = tob_position_of(request->position);
    if (known && (!request->position || tob_position_compare(to, known->position) == 0)) {
        return true; // nothing to journal
    }
    to = request->position ? to : journal_oldest(c);
    tob_error err = tob_store_add_consumer(c->store, request->consumer, &to, tob_clock_unix_ms());
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "%s",
                     err == TOB_BUSY ? "too many consumers" : "can't append to the journal");
    }
    return !err;
}

bool tob_committer_forget_add(tob_committer *c, const tob_work *w) {
    const char *name = w->of.forget->consumer;
    if (!find(c, name)) {
        tob_rpc_fail(w->call, TOB_NOT_FOUND, 0, "consumer: there is none of this name");
        return false;
    }
    tob_error err = tob_store_add_consumer(c->store, name, NULL, tob_clock_unix_ms());
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "can't append to the journal: %s",
                     tob_error_string(err));
    }
    return !err;
}

void tob_committer_answer_commit(tob_committer *c, const tob_work *w) {
    const tob_consumer *consumer = find(c, w->of.commit->consumer);
    if (!consumer) {
        tob_rpc_fail(w->call, TOB_INTERNAL, 0, "the consumer was not stored");
        return;
    }
    // A new consumer's lease is taken here; that of one that was there is its holder's already.
    if (w->of.commit->lease_ms && consumer->holder != w->of.commit->holder && !take_lease(c, w)) {
        return;
    }
    Tobogganing__V1__Position position = tob_position_message(consumer->position);
    Tobogganing__V1__Position oldest = tob_position_message(journal_oldest(c));
    Tobogganing__V1__Position end = tob_position_message(journal_end(c));
    Tobogganing__V1__CommitResponse response = TOBOGGANING__V1__COMMIT_RESPONSE__INIT;
    response.position = &position;
    response.oldest = &oldest;
    response.end = &end;
    tob_rpc_reply(w->call, &response.base);
}

void tob_committer_answer_forget(const tob_work *w) {
    Tobogganing__V1__ForgetConsumerResponse response = TOBOGGANING__V1__FORGET_CONSUMER_RESPONSE__INIT;
    tob_rpc_reply(w->call, &response.base);
}

void tob_committer_answer_consumers(tob_committer *c, const tob_work *w) {
    Tobogganing__V1__Consumer messages[TOB_CONSUMERS_MAX];
    Tobogganing__V1__Consumer *pointers[TOB_CONSUMERS_MAX];
    Tobogganing__V1__Position positions[TOB_CONSUMERS_MAX];
    Tobogganing__V1__Position oldest = tob_position_message(journal_oldest(c));
    Tobogganing__V1__Position end = tob_position_message(journal_end(c));
    Tobogganing__V1__ListConsumersResponse response = TOBOGGANING__V1__LIST_CONSUMERS_RESPONSE__INIT;
    uint64_t now = tob_clock_monotonic_ms();
    size_t count = 0;
    const tob_consumer *all = tob_consumers_all(tob_store_consumers(c->store), &count);
    for (size_t i = 0; i < count && i < TOB_CONSUMERS_MAX; i++) {
        bool leased = all[i].holder && all[i].lease_until_ms > now;
        tobogganing__v1__consumer__init(&messages[i]);
        positions[i] = tob_position_message(all[i].position);
        messages[i].name = (char *)all[i].name;
        messages[i].position = &positions[i];
        messages[i].holder = leased ? all[i].holder : 0;
        messages[i].lease_ms = leased ? (uint32_t)(all[i].lease_until_ms - now) : 0;
        messages[i].lag_bytes =
            tob_positions_apart(all[i].position, journal_end(c), c->options.store.journal.segment_bytes);
        pointers[i] = &messages[i];
        response.n_consumers = i + 1;
    }
    response.consumers = pointers;
    response.oldest = &oldest;
    response.end = &end;
    tob_rpc_reply(w->call, &response.base);
}
