#include "ctl/journal_records.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "wire/batch.h"
#include "wire/varint.h"

enum {
    ARENA_BYTES = 512 << 20, // as recovery: one record at most 32 MiB, unpacked columns up to 8 times that
    HEAD_BYTES = 16 << 20,
};

tob_error tob_ctl_journal_records_init(tob_ctl_journal_records *records) {
    *records = (tob_ctl_journal_records){.arena = NULL};
    tob_buffer_init(&records->head, HEAD_BYTES);
    return tob_arena_new(ARENA_BYTES, &records->arena);
}

void tob_ctl_journal_records_fini(tob_ctl_journal_records *records) {
    tob_arena_free(records->arena);
    tob_buffer_fini(&records->head);
    free(records->checkpoints);
    free(records->consumers);
    free(records->places);
    *records = (tob_ctl_journal_records){.arena = NULL};
}

static tob_error damaged(tob_verify_note *note, const char *reason) {
    note->reason = reason;
    return TOB_DAMAGED;
}

static tob_position position_of(const Tobogganing__V1__Position *message) {
    return message ? (tob_position){message->segment, message->offset} : (tob_position){0, 0};
}

// Unpacks; what can't be unpacked is damage for `reason`.
static tob_error unpack(tob_ctl_journal_records *r, const ProtobufCMessageDescriptor *type, const void *bytes,
                        size_t n, const char *reason, tob_verify_note *note, void *ret) {
    ProtobufCMessage *message = NULL;
    tob_error err = tob_arena_unpack(r->arena, type, bytes, n, &message);
    memcpy(ret, &message, sizeof(message));
    return err == TOB_MALFORMED || err == TOB_TOO_LARGE ? damaged(note, reason) : err;
}

// ---- consumers

static tob_ctl_consumer *find_consumer(const tob_ctl_journal_records *r, const char *name) {
    for (size_t i = 0; i < r->consumer_count; i++) {
        if (strcmp(r->consumers[i].name, name) == 0) {
            return &r->consumers[i];
        }
    }
    return NULL;
}

// Notes what was said about a consumer at `as_of`, unless something later is known.
static tob_error note_consumer(tob_ctl_journal_records *r, const Tobogganing__V1__ConsumerPosition *said,
                               tob_position as_of, tob_verify_note *note) {
    if (!tob_id_valid(said->consumer, strlen(said->consumer))) {
        return damaged(note, "consumers: a name that can't be");
    }
    tob_ctl_consumer *c = find_consumer(r, said->consumer);
    if (!c && r->consumer_count == TOB_CTL_MAX_CONSUMERS) {
        return damaged(note, "consumers: too many");
    }
    if (!c) {
        c = realloc(r->consumers, (r->consumer_count + 1) * sizeof(*c));
        if (!c) {
            return TOB_NO_MEMORY;
        }
        r->consumers = c;
        c = &r->consumers[r->consumer_count++];
        *c = (tob_ctl_consumer){.as_of = {0, 0}};
        snprintf(c->name, sizeof(c->name), "%s", said->consumer);
    }
    if (tob_position_compare(as_of, c->as_of) >= 0) {
        c->as_of = as_of;
        c->position = position_of(said->position);
    }
    return TOB_OK;
}

static tob_error note_consumers(tob_ctl_journal_records *r, Tobogganing__V1__ConsumerPosition *const *all,
                                size_t n, tob_position as_of, tob_verify_note *note) {
    tob_error err = TOB_OK;
    for (size_t i = 0; i < n && !err; i++) {
        err = note_consumer(r, all[i], as_of, note);
    }
    return err;
}

tob_error tob_ctl_consumer_places(void *user, const tob_position **ret, size_t *ret_count) {
    tob_ctl_journal_records *r = user;
    free(r->places);
    r->places = calloc(r->consumer_count + 1, sizeof(*r->places));
    if (!r->places) {
        return TOB_NO_MEMORY;
    }
    size_t count = 0;
    for (size_t i = 0; i < r->consumer_count; i++) {
        if (r->consumers[i].position.segment) {
            r->places[count++] = r->consumers[i].position;
        }
    }
    *ret = r->places;
    *ret_count = count;
    return TOB_OK;
}

// ---- records of the journal

static tob_error check_batch(tob_ctl_journal_records *r, const Tobogganing__V1__Record *record,
                             tob_ctl_record *to, tob_verify_note *note) {
    Tobogganing__V1__Batch *batch = NULL;
    const char *reason = "its batch can't be used";
    tob_error err = unpack(r, &tobogganing__v1__batch__descriptor, record->batch.data, record->batch.len,
                           "its batch can't be unpacked", note, &batch);
    for (size_t i = 0; !err && i < batch->n_clients; i++) {
        err = tob_batch_check_client(batch->clients[i], record->received_unix_ms, &reason);
        to->samples += batch->clients[i]->n_time_unix_ms;
    }
    for (size_t i = 0; !err && i < batch->n_headends; i++) {
        err = tob_batch_check_headend(batch->headends[i], record->received_unix_ms, &reason);
        to->samples += batch->headends[i]->n_time_unix_ms;
    }
    if (err) {
        return err == TOB_INVALID ? damaged(note, reason) : err;
    }
    to->kind = "batch";
    to->agent_id = batch->agent_id;
    to->boot_id = batch->boot_id;
    to->number = batch->number;
    to->series = batch->n_clients + batch->n_headends;
    return TOB_OK;
}

// What is in a record that has no batch.
static void describe(const Tobogganing__V1__Record *record, tob_ctl_record *to) {
    size_t removed = record->n_removed_clients + record->n_removed_headends;
    unsigned unknown = record->base.n_unknown_fields;
    if (removed) {
        to->kind = "removals";
        to->series = removed;
    } else if (record->n_consumers) {
        to->kind = "consumers";
        to->series = record->n_consumers;
    } else if (record->n_processes) {
        to->kind = "counters";
        to->series = record->n_processes;
    } else if (record->erased.len) {
        to->kind = "erased";
    } else if (unknown == 1 && record->base.unknown_fields[0].tag == TOB_CTL_LOST_FIELD) {
        to->kind = "lost";
    }
}

tob_error tob_ctl_check_record(void *user, tob_position at, const void *payload, size_t n,
                               tob_verify_note *ret) {
    tob_ctl_journal_records *r = user;
    Tobogganing__V1__Record *record = NULL;
    tob_ctl_record told = {.kind = "empty", .agent_id = "", .bytes = n};
    tob_arena_clear(r->arena);
    tob_error err = unpack(r, &tobogganing__v1__record__descriptor, payload, n,
                           "it is not a tobogganing.v1.Record", ret, &record);
    if (!err && record->received_unix_ms > INT64_MAX / 2) {
        err = damaged(ret, "received_unix_ms: out of range");
    }
    if (!err && record->batch.len) {
        err = check_batch(r, record, &told, ret);
    }
    if (!err) {
        err = note_consumers(r, record->consumers, record->n_consumers, at, ret);
    }
    if (err) {
        return err;
    }
    if (!record->batch.len) {
        describe(record, &told);
    }
    told.received_unix_ms = ret->unix_ms = record->received_unix_ms;
    if (r->on_record) {
        r->on_record(r->user, at, &told);
    }
    return TOB_OK;
}

// ---- records of checkpoints

const tob_ctl_checkpoint *tob_ctl_checkpoint_at(const tob_ctl_journal_records *records, tob_position at) {
    for (size_t i = 0; i < records->checkpoint_count; i++) {
        if (tob_position_compare(records->checkpoints[i].at, at) == 0) {
            return &records->checkpoints[i];
        }
    }
    return NULL;
}

static tob_error checkpoint_for(tob_ctl_journal_records *r, tob_position at, tob_ctl_checkpoint **ret) {
    *ret = (tob_ctl_checkpoint *)tob_ctl_checkpoint_at(r, at);
    if (*ret) {
        return TOB_OK;
    }
    tob_ctl_checkpoint *more = realloc(r->checkpoints, (r->checkpoint_count + 1) * sizeof(*more));
    if (!more) {
        return TOB_NO_MEMORY;
    }
    r->checkpoints = more;
    *ret = &more[r->checkpoint_count++];
    **ret = (tob_ctl_checkpoint){.at = at};
    return TOB_OK;
}

static tob_error check_head(tob_ctl_journal_records *r, tob_position at,
                            const Tobogganing__V1__CheckpointHead *head, tob_ctl_checkpoint *to,
                            tob_verify_note *note) {
    if (tob_position_compare(position_of(head->position), at) != 0) {
        return damaged(note, "position: another than the file's name says");
    }
    tob_error err = note_consumers(r, head->consumers, head->n_consumers, at, note);
    if (err) {
        return err;
    }
    *to = (tob_ctl_checkpoint){.at = at,
                               .created_unix_ms = head->created_unix_ms,
                               .consumers = head->n_consumers,
                               .stored_batches = head->stored_batches,
                               .stored_samples = head->stored_samples};
    note->head = true;
    note->unix_ms = head->created_unix_ms;
    if (r->head.len > 0) { // that of a newer one
        return TOB_OK;
    }
    uint8_t *bytes = NULL;
    size_t n = tobogganing__v1__checkpoint_head__get_packed_size(head);
    err = tob_buffer_reserve(&r->head, n, &bytes);
    if (!err) {
        r->head.len += tobogganing__v1__checkpoint_head__pack(head, bytes);
    }
    return err == TOB_TOO_LARGE ? damaged(note, "its head is too large") : err;
}

static bool same_lengths(size_t n, const size_t *lengths, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] != n) {
            return false;
        }
    }
    return true;
}

// A page of rows or digests; its head says as of which place it is.
static tob_error check_page(tob_position at, const Tobogganing__V1__CheckpointRecord *record,
                            tob_ctl_checkpoint *to, tob_verify_note *note) {
    const Tobogganing__V1__ClientStates *c = record->clients;
    const Tobogganing__V1__HeadendStates *h = record->headends;
    bool same = true;
    note->reaches = position_of(record->head ? record->head->position : NULL);
    if (note->reaches.segment && tob_position_compare(note->reaches, at) < 0) {
        return damaged(note, "position: before the checkpoint's");
    }
    if (c) {
        const size_t lengths[] = {c->n_headless,
                                  c->n_last_check_in_unix_ms,
                                  c->n_sample_time_unix_ms,
                                  c->n_present,
                                  c->n_bytes_sent,
                                  c->n_bytes_received,
                                  c->n_packets_sent,
                                  c->n_packets_received,
                                  c->n_connection_uptime_ms};
        same = same_lengths(c->n_client_ids, lengths, sizeof(lengths) / sizeof(lengths[0]));
        to->clients += c->n_client_ids;
    }
    if (h) {
        const size_t lengths[] = {h->n_names,
                                  h->n_last_check_in_unix_ms,
                                  h->n_sample_time_unix_ms,
                                  h->n_present,
                                  h->n_active_connections,
                                  h->n_bandwidth_in,
                                  h->n_bandwidth_out,
                                  h->n_cpu_usage,
                                  h->n_memory_usage};
        same = same && same_lengths(h->n_headend_ids, lengths, sizeof(lengths) / sizeof(lengths[0]));
        to->headends += h->n_headend_ids;
    }
    if (record->digests) {
        same = same && record->digests->senders.len == 16 * record->digests->n_heard_unix_s &&
               record->digests->n_digests == 4 * record->digests->n_heard_unix_s;
        to->senders += record->digests->n_heard_unix_s;
    }
    return same ? TOB_OK : damaged(note, "columns of different length");
}

tob_error tob_ctl_check_checkpoint_record(void *user, tob_position at, const void *payload, size_t n,
                                          tob_verify_note *ret) {
    tob_ctl_journal_records *r = user;
    Tobogganing__V1__CheckpointRecord *record = NULL;
    tob_ctl_checkpoint *to = NULL;
    tob_arena_clear(r->arena);
    tob_error err = unpack(r, &tobogganing__v1__checkpoint_record__descriptor, payload, n,
                           "it is not a tobogganing.v1.CheckpointRecord", ret, &record);
    if (!err) {
        err = checkpoint_for(r, at, &to);
    }
    if (err) {
        return err;
    }
    if (record->clients || record->headends || record->digests) {
        return check_page(at, record, to, ret);
    }
    return record->head ? check_head(r, at, record->head, to, ret)
                        : damaged(ret, "it has neither rows nor digests");
}

// ---- what a repair puts in

size_t tob_ctl_make_filler(uint64_t unix_ms, size_t n, uint8_t to[TOB_REPAIR_FILLER_BYTES]) {
    enum { RECEIVED = 1 << 3, LENGTH_BYTES = 5, ROOM_FOR_BOTH = 24 };
    size_t at = 0;
    if (unix_ms && n >= ROOM_FOR_BOTH) {
        to[at++] = RECEIVED;
        at += tob_varint_put(to + at, unix_ms);
    }
    to[at++] = TOB_CTL_LOST_FIELD << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    size_t rest = n - at - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++) { // always five bytes long, so that every n can be made
        to[at++] = (uint8_t)((rest >> (7 * i) & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0));
    }
    return at;
}

static tob_error put_consumers(const tob_ctl_journal_records *r, Tobogganing__V1__CheckpointHead *head) {
    Tobogganing__V1__ConsumerPosition *consumers =
        tob_arena_alloc(r->arena, (r->consumer_count + 1) * sizeof(*consumers));
    Tobogganing__V1__ConsumerPosition **pointers =
        tob_arena_alloc(r->arena, (r->consumer_count + 1) * sizeof(Tobogganing__V1__ConsumerPosition *));
    Tobogganing__V1__Position *places = tob_arena_alloc(r->arena, (r->consumer_count + 1) * sizeof(*places));
    if (!consumers || !pointers || !places) {
        return tob_arena_error(r->arena);
    }
    head->n_consumers = 0;
    for (size_t i = 0; i < r->consumer_count; i++) {
        size_t to_row = head->n_consumers;
        if (!r->consumers[i].position.segment) {
            continue;
        }
        tobogganing__v1__consumer_position__init(&consumers[to_row]);
        tobogganing__v1__position__init(&places[to_row]);
        places[to_row].segment = r->consumers[i].position.segment;
        places[to_row].offset = r->consumers[i].position.offset;
        consumers[to_row].consumer = r->consumers[i].name;
        consumers[to_row].position = &places[to_row];
        pointers[to_row] = &consumers[to_row];
        head->n_consumers++;
    }
    head->consumers = pointers;
    return TOB_OK;
}

tob_error tob_ctl_make_head(void *user, tob_position at, tob_buffer *to) {
    tob_ctl_journal_records *r = user;
    Tobogganing__V1__CheckpointRecord record = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    ProtobufCMessage *message = NULL;
    uint8_t *bytes = NULL;
    tob_arena_clear(r->arena);
    // That of another checkpoint, if there is one, for its totals; none of it at all is a head with none.
    tob_error err = tob_arena_unpack(r->arena, &tobogganing__v1__checkpoint_head__descriptor, r->head.data,
                                     r->head.len, &message);
    if (err) {
        return err;
    }
    Tobogganing__V1__CheckpointHead *head = (Tobogganing__V1__CheckpointHead *)message;
    err = put_consumers(r, head);
    if (err) {
        return err;
    }
    position.segment = at.segment;
    position.offset = at.offset;
    head->position = &position;
    record.head = head;
    err = tob_buffer_reserve(to, tobogganing__v1__checkpoint_record__get_packed_size(&record), &bytes);
    if (!err) {
        to->len += tobogganing__v1__checkpoint_record__pack(&record, bytes);
    }
    return err;
}
