#include "ingestd/checkpoint_pages.h"

#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

enum {
    ROWS = TOB_CHECKPOINT_PAGE_ROWS,
    SLOTS_A_PAGE = 4 * ROWS, // free ones are looked at too
};

typedef enum part { PART_CLIENTS, PART_HEADENDS, PART_OLDER_DIGESTS, PART_NEWER_DIGESTS, PART_END } part;

struct tob_page_columns {
    char *ids[ROWS];
    char *names[ROWS];
    protobuf_c_boolean headless[ROWS];
    uint64_t last_check_in[ROWS];
    int64_t sample_time[ROWS];
    uint32_t present[ROWS];
    uint64_t values[TOB_CLIENT_METRICS][ROWS];
    double gauges[TOB_HEADEND_METRICS][ROWS];
    uint8_t senders[ROWS * TOB_SENDER_BYTES];
    uint64_t digests[ROWS * TOB_DIGESTS_BATCHES];
    uint32_t heard[ROWS];
};

tob_error tob_page_columns_new(tob_page_columns **ret) {
    tob_page_columns *columns = calloc(1, sizeof(*columns));
    if (!columns) {
        return TOB_NO_MEMORY;
    }
    *ret = columns;
    return TOB_OK;
}

void tob_page_columns_free(tob_page_columns *columns) {
    free(columns);
}

static Tobogganing__V1__Position position_message(tob_position at) {
    Tobogganing__V1__Position message = TOBOGGANING__V1__POSITION__INIT;
    message.segment = at.segment;
    message.offset = at.offset;
    return message;
}

// Replaces what the buffer has.
static tob_error pack(const Tobogganing__V1__CheckpointRecord *record, tob_buffer *page) {
    uint8_t *to = NULL;
    tob_buffer_clear(page);
    tob_error err =
        tob_buffer_reserve(page, tobogganing__v1__checkpoint_record__get_packed_size(record), &to);
    if (!err) {
        page->len = tobogganing__v1__checkpoint_record__pack(record, to);
    }
    return err;
}

tob_error tob_checkpoint_head(const tob_tables *tables, tob_position at, uint64_t now_unix_ms,
                              tob_buffer *page, tob_store_cursor *ret) {
    Tobogganing__V1__CheckpointRecord record = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__CheckpointHead head = TOBOGGANING__V1__CHECKPOINT_HEAD__INIT;
    Tobogganing__V1__Position position = position_message(at);
    Tobogganing__V1__ConsumerPosition consumers[TOB_CONSUMERS_MAX];
    Tobogganing__V1__ConsumerPosition *pointers[TOB_CONSUMERS_MAX];
    Tobogganing__V1__Position places[TOB_CONSUMERS_MAX];
    const tob_consumer *all = tob_consumers_all(tables->consumers, &head.n_consumers);
    for (size_t i = 0; i < head.n_consumers; i++) {
        tobogganing__v1__consumer_position__init(&consumers[i]);
        places[i] = position_message(all[i].position);
        consumers[i].consumer = (char *)all[i].name;
        consumers[i].position = &places[i];
        pointers[i] = &consumers[i];
    }
    head.consumers = pointers;
    head.processes = tob_process_table_all(tables->processes, &head.n_processes);
    head.position = &position;
    head.created_unix_ms = now_unix_ms;
    head.stored_batches = tables->stored_batches;
    head.stored_samples = tables->stored_samples;
    record.head = &head;
    tob_error err = pack(&record, page);
    if (!err) {
        *ret = (tob_store_cursor){.at = at, .part = PART_CLIENTS};
    }
    return err;
}

// Packs a page as of `at`.
static tob_error pack_page(Tobogganing__V1__CheckpointRecord *record, tob_position at, tob_buffer *page) {
    Tobogganing__V1__CheckpointHead head = TOBOGGANING__V1__CHECKPOINT_HEAD__INIT;
    Tobogganing__V1__Position position = position_message(at);
    head.position = &position;
    record->head = &head;
    return pack(record, page);
}

static void source_columns(tob_page_columns *c, const tob_source *source, size_t i) {
    c->ids[i] = source->id;
    c->last_check_in[i] = source->last_check_in_unix_ms;
    c->sample_time[i] = source->sample_time_unix_ms;
    c->present[i] = source->present;
}

// Where a page that begins at slot `from` has to stop.
static uint64_t last_slot(uint64_t from, uint64_t slots) {
    return slots - from < SLOTS_A_PAGE ? slots : from + SLOTS_A_PAGE;
}

static tob_error page_of_clients(const tob_tables *tables, tob_position at, tob_page_columns *c,
                                 tob_store_cursor *cursor, tob_buffer *page) {
    Tobogganing__V1__CheckpointRecord record = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__ClientStates states = TOBOGGANING__V1__CLIENT_STATES__INIT;
    uint64_t slot = cursor->next, end = last_slot(slot, tob_fleet_client_slots(tables->fleet));
    size_t n = 0;
    for (; slot < end && n < ROWS; slot++) {
        const tob_client_row *row = tob_fleet_client(tables->fleet, (uint32_t)slot);
        if (!row) {
            continue;
        }
        source_columns(c, &row->source, n);
        c->headless[n] = row->headless;
        for (size_t m = 0; m < TOB_CLIENT_METRICS; m++) {
            c->values[m][n] = (uint64_t)row->values[m];
        }
        n++;
    }
    states.n_client_ids = states.n_headless = states.n_last_check_in_unix_ms = n;
    states.n_sample_time_unix_ms = states.n_present = states.n_bytes_sent = states.n_bytes_received = n;
    states.n_packets_sent = states.n_packets_received = states.n_connection_uptime_ms = n;
    states.client_ids = c->ids;
    states.headless = c->headless;
    states.last_check_in_unix_ms = c->last_check_in;
    states.sample_time_unix_ms = c->sample_time;
    states.present = c->present;
    states.bytes_sent = c->values[TOB_CLIENT_BYTES_SENT];
    states.bytes_received = c->values[TOB_CLIENT_BYTES_RECEIVED];
    states.packets_sent = c->values[TOB_CLIENT_PACKETS_SENT];
    states.packets_received = c->values[TOB_CLIENT_PACKETS_RECEIVED];
    states.connection_uptime_ms = c->values[TOB_CLIENT_CONNECTION_UPTIME];
    record.clients = &states;
    cursor->next = slot;
    return pack_page(&record, at, page);
}

static tob_error page_of_headends(const tob_tables *tables, tob_position at, tob_page_columns *c,
                                  tob_store_cursor *cursor, tob_buffer *page) {
    Tobogganing__V1__CheckpointRecord record = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__HeadendStates states = TOBOGGANING__V1__HEADEND_STATES__INIT;
    uint64_t slot = cursor->next, end = last_slot(slot, tob_fleet_headend_slots(tables->fleet));
    size_t n = 0;
    for (; slot < end && n < ROWS; slot++) {
        const tob_headend_row *row = tob_fleet_headend(tables->fleet, (uint32_t)slot);
        if (!row) {
            continue;
        }
        source_columns(c, &row->source, n);
        c->names[n] = row->name ? row->name : (char *)"";
        for (size_t m = 0; m < TOB_HEADEND_METRICS; m++) {
            c->gauges[m][n] = row->values[m];
        }
        n++;
    }
    states.n_headend_ids = states.n_names = states.n_last_check_in_unix_ms = n;
    states.n_sample_time_unix_ms = states.n_present = states.n_active_connections = n;
    states.n_bandwidth_in = states.n_bandwidth_out = states.n_cpu_usage = states.n_memory_usage = n;
    states.headend_ids = c->ids;
    states.names = c->names;
    states.last_check_in_unix_ms = c->last_check_in;
    states.sample_time_unix_ms = c->sample_time;
    states.present = c->present;
    states.active_connections = c->gauges[TOB_HEADEND_ACTIVE_CONNECTIONS];
    states.bandwidth_in = c->gauges[TOB_HEADEND_BANDWIDTH_IN];
    states.bandwidth_out = c->gauges[TOB_HEADEND_BANDWIDTH_OUT];
    states.cpu_usage = c->gauges[TOB_HEADEND_CPU_USAGE];
    states.memory_usage = c->gauges[TOB_HEADEND_MEMORY_USAGE];
    record.headends = &states;
    cursor->next = slot;
    return pack_page(&record, at, page);
}

// Senders from cursor->next up to `end`; none is a page too: it says that the newer generation begins.
static tob_error page_of_digests(const tob_tables *tables, tob_position at, tob_page_columns *c, uint64_t end,
                                 tob_store_cursor *cursor, tob_buffer *page) {
    Tobogganing__V1__CheckpointRecord record = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__BatchDigests digests = TOBOGGANING__V1__BATCH_DIGESTS__INIT;
    size_t n = end - cursor->next < ROWS ? (size_t)(end - cursor->next) : ROWS;
    for (size_t i = 0; i < n; i++) {
        const tob_sender_digests *sender = tob_digests_at(tables->digests, cursor->next + i);
        memcpy(&c->senders[i * TOB_SENDER_BYTES], sender->sender, TOB_SENDER_BYTES);
        memcpy(&c->digests[i * TOB_DIGESTS_BATCHES], sender->digests, sizeof(sender->digests));
        c->heard[i] = sender->heard_unix_s;
    }
    digests.senders = (ProtobufCBinaryData){.len = n * TOB_SENDER_BYTES, .data = c->senders};
    digests.digests = c->digests;
    digests.n_digests = n * TOB_DIGESTS_BATCHES;
    digests.heard_unix_s = c->heard;
    digests.n_heard_unix_s = n;
    record.digests = &digests;
    cursor->next += n;
    return pack_page(&record, at, page);
}

// The generations may have been rotated since the last page: numbers stay what they were.
static tob_error next_digests(const tob_tables *tables, tob_position at, tob_page_columns *c,
                              tob_store_cursor *cursor, tob_buffer *page) {
    tob_digests_range range = tob_digests_numbers(tables->digests);
    if (cursor->next < range.newer) {
        cursor->part = PART_OLDER_DIGESTS;
        cursor->next = cursor->next < range.older ? range.older : cursor->next;
    }
    if (cursor->part == PART_OLDER_DIGESTS && cursor->next < range.newer) {
        return page_of_digests(tables, at, c, range.newer, cursor, page);
    }
    if (cursor->part == PART_OLDER_DIGESTS) {
        cursor->part = PART_NEWER_DIGESTS;
        return page_of_digests(tables, at, c, cursor->next, cursor, page);
    }
    if (cursor->next < range.end) {
        return page_of_digests(tables, at, c, range.end, cursor, page);
    }
    cursor->part = PART_END;
    return TOB_OK;
}

tob_error tob_checkpoint_page(const tob_tables *tables, tob_position at, tob_page_columns *columns,
                              tob_store_cursor *cursor, tob_buffer *page) {
    tob_buffer_clear(page);
    if (cursor->part == PART_CLIENTS && cursor->next >= tob_fleet_client_slots(tables->fleet)) {
        cursor->part = PART_HEADENDS;
        cursor->next = 0;
    }
    if (cursor->part == PART_HEADENDS && cursor->next >= tob_fleet_headend_slots(tables->fleet)) {
        cursor->part = PART_OLDER_DIGESTS;
        cursor->next = 0;
    }
    switch ((part)cursor->part) {
    case PART_CLIENTS: return page_of_clients(tables, at, columns, cursor, page);
    case PART_HEADENDS: return page_of_headends(tables, at, columns, cursor, page);
    case PART_OLDER_DIGESTS:
    case PART_NEWER_DIGESTS: return next_digests(tables, at, columns, cursor, page);
    case PART_END: break;
    }
    return TOB_OK;
}
