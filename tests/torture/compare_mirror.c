#include "compare_mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool same_values(const tob_mirror_chunk *c, unsigned i, unsigned source, const plain_source *plain) {
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        double real = (double)plain->values[v] / 2;
        bool same = plain_is_client(source) ? c->values[v][i].integer == (uint64_t)plain->values[v]
                                            : c->values[v][i].real >= real && c->values[v][i].real <= real;
        if (plain->present & (1u << v) && !same) {
            return false;
        }
    }
    return true;
}

static bool same_labels(const char *block, size_t n, unsigned source, const plain_source *plain) {
    char expected[256];
    if (plain_is_client(source)) {
        snprintf(expected, sizeof(expected), "client_id=\"%s\",name=\"name\",type=\"native\",headless=\"%s\"",
                 plain_source_id(source), plain->headless ? "true" : "false");
    } else {
        snprintf(expected, sizeof(expected), "headend_id=\"%s\",name=\"%s\",region=\"\",datacenter=\"\"",
                 plain_source_id(source), plain->name ? plain_name(plain->name) : "registered");
    }
    return n == strlen(expected) && memcmp(block, expected, n) == 0;
}

static bool same_row(const tob_mirror_chunk *c, unsigned i, unsigned source, const plain_source *plain,
                     tob_moment now, uint64_t expire_after_ms, char *text) {
    bool silent = now.unix_ms > plain->check_in && now.unix_ms - plain->check_in > expire_after_ms;
    const char *what = NULL;
    if (!plain->there) {
        what = "is there, and should not be";
    } else if (c->last_check_in_unix_ms[i] != plain->check_in) {
        what = "has another check-in";
    } else if (c->present[i] != plain->present) {
        what = "has other metrics";
    } else if (!same_values(c, i, source, plain)) {
        what = "has other values";
    } else if (!same_labels(c->block[i], c->block_len[i], source, plain)) {
        what = "has other labels";
    } else if (c->state[i] != (silent ? TOB_ROW_HIDDEN : TOB_ROW_SHOWN)) {
        what = silent ? "is shown, and should be hidden" : "is hidden, and should be shown";
    }
    if (what) {
        snprintf(text, COMPARE_TEXT_BYTES,
                 "mirror: %s %s: %.*s, check-in %llu, metrics %x; should be check-in %llu, metrics %x",
                 plain_source_id(source), what, (int)c->block_len[i], c->block[i],
                 (unsigned long long)c->last_check_in_unix_ms[i], c->present[i],
                 (unsigned long long)plain->check_in, plain->present);
    }
    return !what;
}

// The source of a label block: its id is the first label.
static unsigned source_of(const char *block, size_t n) {
    for (unsigned s = 0; s < PLAIN_SOURCES; s++) {
        char begin[64];
        int len = snprintf(begin, sizeof(begin), "%s_id=\"%s\",", plain_is_client(s) ? "client" : "headend",
                           plain_source_id(s));
        if (n >= (size_t)len && memcmp(block, begin, (size_t)len) == 0) {
            return s;
        }
    }
    return PLAIN_SOURCES;
}

static bool same_chunk(const tob_mirror_chunk *c, const plain_state *plain, tob_moment now,
                       uint64_t expire_after_ms, bool *seen, char *text) {
    for (unsigned i = 0; i < PLAIN_SOURCES * 4; i++) { // freed rows are used again: there are never more
        if (c->state[i] == TOB_ROW_FREE) {
            continue;
        }
        unsigned source = source_of(c->block[i], c->block_len[i]);
        if (source == PLAIN_SOURCES || seen[source]) {
            snprintf(text, COMPARE_TEXT_BYTES, "mirror: a row of nobody, or a second one: %.*s",
                     (int)c->block_len[i], c->block[i]);
            return false;
        }
        seen[source] = true;
        if (!same_row(c, i, source, &plain->sources[source], now, expire_after_ms, text)) {
            return false;
        }
    }
    return true;
}

bool compare_mirror(tob_mirror *mirror, const plain_state *plain, tob_moment now,
                    char ret_text[COMPARE_TEXT_BYTES]) {
    bool seen[PLAIN_SOURCES + 1] = {false};
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        for (uint32_t chunk = 0; chunk < tob_mirror_chunks(mirror, (tob_source_kind)kind); chunk++) {
            const tob_mirror_chunk *c = tob_mirror_read_lock(mirror, (tob_source_kind)kind, chunk);
            bool same = same_chunk(c, plain, now, tob_mirror_expire_after_ms(mirror), seen, ret_text);
            tob_mirror_read_unlock(mirror, (tob_source_kind)kind, chunk);
            if (!same) {
                return false;
            }
        }
    }
    for (unsigned s = 0; s < PLAIN_SOURCES; s++) {
        if (plain->sources[s].there && !seen[s]) {
            snprintf(ret_text, COMPARE_TEXT_BYTES, "mirror: %s is missing", plain_source_id(s));
            return false;
        }
    }
    return true;
}
