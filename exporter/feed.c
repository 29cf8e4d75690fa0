#include "exporter/feed.h"

#include <string.h>

#include "util/index.h"
#include "util/log.h"
#include "wire/bus_topics.h"

unsigned tob_bucket_of(const char *id) {
    return (unsigned)(tob_id_hash(id, strlen(id)) % TOB_BUS_BUCKETS);
}

static bool wanted(const tob_feed *feed, const char *id) {
    return feed->buckets == UINT64_MAX || (feed->buckets >> tob_bucket_of(id) & 1);
}

void tob_feed_refuse(tob_feed *feed, tob_error error, tob_moment now) {
    feed->refused++;
    feed->starved |= error == TOB_NO_MEMORY;
    if (feed->complained_ms && now.monotonic_ms - feed->complained_ms < TOB_FEED_COMPLAIN_MS) {
        return;
    }
    tob_warn("rows_refused", TOB_UINT("instance", feed->instance), TOB_UINT("count", feed->refused),
             TOB_ERR(error));
    feed->refused = 0;
    feed->complained_ms = now.monotonic_ms;
}

static void put(tob_feed *feed, tob_source_kind kind, const tob_mirror_row *row, bool in_snapshot,
                tob_moment now) {
    tob_error err = wanted(feed, row->id) ? tob_mirror_put(feed->mirror, kind, row, in_snapshot, now.unix_ms)
                                          : TOB_INVALID;
    if (err) {
        tob_feed_refuse(feed, err, now);
    }
}

void tob_feed_client(tob_feed *feed, const Tobogganing__V1__ClientRow *row, bool in_snapshot,
                     tob_moment now) {
    tob_mirror_row r = {
        .id = row->client_id,
        .labels = {row->name, row->type, row->headless ? "true" : "false"},
        .owner = (uint16_t)feed->owner,
        .version = row->version,
        .last_check_in_unix_ms = row->last_check_in_unix_ms,
        .present = row->present,
        .values = {{.integer = row->bytes_sent},
                   {.integer = row->bytes_received},
                   {.integer = row->packets_sent},
                   {.integer = row->packets_received},
                   {.integer = row->connection_uptime_ms}},
    };
    put(feed, TOB_SOURCE_CLIENT, &r, in_snapshot, now);
}

void tob_feed_headend(tob_feed *feed, const Tobogganing__V1__HeadendRow *row, bool in_snapshot,
                      tob_moment now) {
    tob_mirror_row r = {
        .id = row->headend_id,
        .labels = {row->name, row->region, row->datacenter},
        .owner = (uint16_t)feed->owner,
        .version = row->version,
        .last_check_in_unix_ms = row->last_check_in_unix_ms,
        .present = row->present,
        .values = {{.real = row->active_connections},
                   {.real = row->bandwidth_in},
                   {.real = row->bandwidth_out},
                   {.real = row->cpu_usage},
                   {.real = row->memory_usage}},
    };
    put(feed, TOB_SOURCE_HEADEND, &r, in_snapshot, now);
}

void tob_feed_manager(tob_feed *feed, const Tobogganing__V1__Manager *message, tob_moment now) {
    uint64_t ignored = 0;
    if (!feed->manager) {
        return;
    }
    tob_error err = tob_manager_apply(feed->manager, feed->owner, message, now.monotonic_ms, &ignored);
    if (err || ignored) {
        tob_feed_refuse(feed, err ? err : TOB_INVALID, now);
    }
}

void tob_feed_removal(tob_feed *feed, tob_source_kind kind, const char *id, uint64_t max_version) {
    tob_mirror_remove(feed->mirror, feed->owner, kind, id, max_version);
}
