#include "plain.h"

#include <stdio.h>
#include <string.h>

void plain_init(plain_state *state) {
    memset(state, 0, sizeof(*state));
}

bool plain_is_client(unsigned source) {
    return source < PLAIN_CLIENTS;
}

static void pass_time(plain_state *state, int64_t received) {
    for (unsigned s = 0; s < PLAIN_SENDERS; s++) {
        for (unsigned k = 0; k < state->senders[s].count; k++) {
            plain_known *known = &state->senders[s].known[k];
            known->earliest = received < known->earliest ? received : known->earliest;
            known->latest = received > known->latest ? received : known->latest;
        }
    }
}

plain_answer plain_repeated(const plain_state *state, const plain_batch *batch) {
    const plain_sender *sender = &state->senders[batch->sender];
    plain_answer answer = PLAIN_NO;
    for (unsigned k = 0; k < sender->count; k++) {
        const plain_known *known = &sender->known[k];
        if (known->content == batch->content && answer != PLAIN_YES) {
            answer = known->latest - known->earliest < PLAIN_REMEMBER_MS ? PLAIN_YES : PLAIN_MAYBE;
        }
    }
    return answer;
}

static void apply_sample(plain_source *source, const plain_series *series, const plain_sample *sample,
                         int64_t received) {
    bool newer = sample->time >= source->sample_time;
    bool future = source->sample_time > received + PLAIN_FUTURE_MS;
    if (!newer && !future) {
        return;
    }
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        if (sample->present & (1u << v)) {
            source->values[v] = sample->values[v];
        }
    }
    source->present |= sample->present;
    source->sample_time = sample->time;
    source->headless = series->headless;
    source->name = series->name ? series->name : source->name;
}

static void submit(plain_state *state, const plain_batch *batch, int64_t received) {
    for (unsigned i = 0; i < batch->n; i++) {
        const plain_series *series = &batch->series[i];
        plain_source *source = &state->sources[series->source];
        if (!source->there) {
            memset(source, 0, sizeof(*source));
            source->there = true;
            source->sample_time = -1;
        }
        for (unsigned k = 0; k < series->n; k++) {
            apply_sample(source, series, &series->samples[k], received);
        }
        source->check_in = (uint64_t)received;
        state->samples += series->n + series->fill;
    }
    state->batches++;
    plain_sender *sender = &state->senders[batch->sender];
    if (sender->count == PLAIN_KNOWN) {
        memmove(&sender->known[0], &sender->known[1], (PLAIN_KNOWN - 1) * sizeof(sender->known[0]));
        sender->count--;
    }
    sender->known[sender->count++] = (plain_known){batch->content, received, received};
}

void plain_apply(plain_state *state, const plain_item *item) {
    switch (item->kind) {
    case PLAIN_BATCH: submit(state, &item->batch, item->received); break;
    case PLAIN_REMOVAL: memset(&state->sources[item->which], 0, sizeof(state->sources[item->which])); break;
    case PLAIN_COMMIT: state->consumers[item->which] = item->position; break;
    case PLAIN_FORGET: state->consumers[item->which] = (plain_consumer){0}; break;
    case PLAIN_COUNTERS: state->counted[item->which] = item->count; break;
    }
    pass_time(state, item->received);
}

const char *plain_source_id(unsigned source) {
    static char ids[PLAIN_SOURCES][PLAIN_SHOWN_NAME_BYTES];
    snprintf(ids[source], sizeof(ids[source]), "%s-%u", plain_is_client(source) ? "client" : "headend",
             source);
    return ids[source];
}

// Two senders are one agent before and after its restart.
const char *plain_sender_id(unsigned sender) {
    static char ids[PLAIN_SENDERS][PLAIN_SHOWN_NAME_BYTES];
    snprintf(ids[sender], sizeof(ids[sender]), "agent-%u", sender / 2);
    return ids[sender];
}

uint64_t plain_sender_boot(unsigned sender) {
    return 7 + sender % 2;
}

const char *plain_consumer_name(unsigned consumer) {
    static char names[PLAIN_CONSUMERS][PLAIN_SHOWN_NAME_BYTES];
    snprintf(names[consumer], sizeof(names[consumer]), "consumer-%u", consumer);
    return names[consumer];
}

const char *plain_name(unsigned name) {
    static const char *const names[] = {"", "Genf", "Zürich", "Bern", "Uri"};
    return names[name % (sizeof(names) / sizeof(names[0]))];
}
