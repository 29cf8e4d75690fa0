#include "compare.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool differ(char *text, const char *format, ...) TOB_PRINTF(2, 3);

static bool differ(char *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, COMPARE_TEXT_BYTES, format, args);
    va_end(args);
    return false;
}

static bool same_source(const tob_source *row, const plain_source *plain, const char *id, char *text) {
    if (row->last_check_in_unix_ms != plain->check_in) {
        return differ(text, "%s: last check-in is %" PRIu64 ", not %" PRIu64, id, row->last_check_in_unix_ms,
                      plain->check_in);
    }
    if (row->sample_time_unix_ms != plain->sample_time) {
        return differ(text, "%s: sample time is %" PRId64 ", not %" PRId64, id, row->sample_time_unix_ms,
                      plain->sample_time);
    }
    if (row->present != plain->present) {
        return differ(text, "%s: present is %" PRIx32 ", not %" PRIx32, id, row->present, plain->present);
    }
    return true;
}

static bool same_client(const tob_client_row *row, const plain_source *plain, const char *id, char *text) {
    if (row->headless != plain->headless) {
        return differ(text, "%s: headless is %d", id, row->headless);
    }
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        if (plain->present & (1u << v) && row->values[v] != plain->values[v]) {
            return differ(text, "%s: value %u is %" PRId64 ", not %" PRId64, id, v, row->values[v],
                          plain->values[v]);
        }
    }
    return same_source(&row->source, plain, id, text);
}

static bool same_headend(const tob_headend_row *row, const plain_source *plain, const char *id, char *text) {
    if (strcmp(row->name ? row->name : "", plain_name(plain->name)) != 0) {
        return differ(text, "%s: name is \"%s\", not \"%s\"", id, row->name ? row->name : "",
                      plain_name(plain->name));
    }
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        double value = (double)plain->values[v] / 2;
        if (plain->present & (1u << v) && !(row->values[v] >= value && row->values[v] <= value)) {
            return differ(text, "%s: value %u is %g, not %g", id, v, row->values[v], value);
        }
    }
    return same_source(&row->source, plain, id, text);
}

static bool same_row(const tob_fleet *fleet, unsigned source, const plain_source *plain, char *text) {
    const char *id = plain_source_id(source);
    bool client = plain_is_client(source);
    uint32_t row =
        client ? tob_fleet_find_client(fleet, id, strlen(id)) : tob_fleet_find_headend(fleet, id, strlen(id));
    if ((row != TOB_FLEET_NONE) != plain->there) {
        return differ(text, "%s is %s", id, plain->there ? "missing" : "there, and should not be");
    }
    if (!plain->there) {
        return true;
    }
    return client ? same_client(tob_fleet_client(fleet, row), plain, id, text)
                  : same_headend(tob_fleet_headend(fleet, row), plain, id, text);
}

static bool same_rows(const tob_fleet *fleet, const plain_state *plain, char *text) {
    uint32_t clients = 0, headends = 0;
    for (unsigned s = 0; s < PLAIN_SOURCES; s++) {
        if (!same_row(fleet, s, &plain->sources[s], text)) {
            return false;
        }
        *(plain_is_client(s) ? &clients : &headends) += plain->sources[s].there;
    }
    if (tob_fleet_clients(fleet) != clients || tob_fleet_headends(fleet) != headends) {
        return differ(text, "%" PRIu32 " clients and %" PRIu32 " headends, not %" PRIu32 " and %" PRIu32,
                      tob_fleet_clients(fleet), tob_fleet_headends(fleet), clients, headends);
    }
    return true;
}

static bool same_consumers(const tob_consumers *consumers, const plain_state *plain, char *text) {
    size_t count = 0, expected = 0;
    (void)tob_consumers_all(consumers, &count);
    for (unsigned c = 0; c < PLAIN_CONSUMERS; c++) {
        const plain_consumer *is = &plain->consumers[c];
        const tob_consumer *found = tob_consumers_find(consumers, plain_consumer_name(c));
        expected += is->there;
        if (is->there != (found != NULL) ||
            (found && (found->position.segment != is->segment || found->position.offset != is->offset))) {
            return differ(text, "%s: %s at %" PRIu64 ":%" PRIu64 ", should be %s at %" PRIu64 ":%" PRIu64,
                          plain_consumer_name(c), found ? "there" : "missing",
                          found ? found->position.segment : 0, found ? found->position.offset : 0,
                          is->there ? "there" : "missing", is->segment, is->offset);
        }
    }
    return count == expected || differ(text, "%zu consumers, not %zu", count, expected);
}

bool compare_store(tob_store *store, const plain_state *plain, char ret_text[COMPARE_TEXT_BYTES]) {
    tob_store_stats stats;
    tob_store_get_stats(store, &stats);
    if (stats.stored_batches != plain->batches || stats.stored_samples != plain->samples) {
        return differ(ret_text, "%" PRIu64 " batches with %" PRIu64 " samples, not %" PRIu64 " with %" PRIu64,
                      stats.stored_batches, stats.stored_samples, plain->batches, plain->samples);
    }
    return same_rows(tob_store_fleet(store), plain, ret_text) &&
           same_consumers(tob_store_consumers(store), plain, ret_text);
}
