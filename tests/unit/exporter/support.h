// What the exporter's tests share.
#ifndef TESTS_UNIT_EXPORTER_SUPPORT_H
#define TESTS_UNIT_EXPORTER_SUPPORT_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exporter/exposition.h"

#define DAY_MS 86400000ull

static inline tob_mirror *new_mirror(uint64_t max_sources, uint64_t expire_after_ms) {
    tob_mirror_options options = {.max_sources = max_sources, .expire_after_ms = expire_after_ms};
    tob_mirror *mirror = NULL;
    assert_int_equal(tob_mirror_new(&options, &mirror), TOB_OK);
    return mirror;
}

static inline tob_manager *new_manager(void) {
    tob_manager *manager = NULL;
    assert_int_equal(tob_manager_new(&manager), TOB_OK);
    return manager;
}

// A client that reported bytes_sent only.
static inline tob_mirror_row client_row(const char *id, uint64_t version, uint64_t bytes_sent) {
    return (tob_mirror_row){.id = id,
                            .labels = {"laptop", "native", "false"},
                            .version = version,
                            .last_check_in_unix_ms = 1700000000000,
                            .present = 1,
                            .values = {{.integer = bytes_sent}}};
}

// The whole exposition, read in pieces of `room` bytes; the caller frees.
static inline char *exposition_in(tob_mirror *mirror, tob_manager *manager, unsigned parts, size_t room) {
    tob_exposition exposition;
    tob_exposition_init(&exposition, mirror, manager, parts);
    char *text = NULL;
    size_t len = 0;
    for (;;) {
        text = realloc(text, len + room + 1);
        assert_non_null(text);
        size_t n = tob_exposition_read(&exposition, text + len, room);
        assert_true(n <= room);
        assert_true(n == 0 || text[len + n - 1] == '\n');
        len += n;
        if (n == 0) {
            text[len] = 0;
            return text;
        }
    }
}

static inline char *exposition_of(tob_mirror *mirror, tob_manager *manager, unsigned parts) {
    return exposition_in(mirror, manager, parts, 65536);
}

static inline size_t count_of(const char *text, const char *needle) {
    size_t n = 0;
    for (const char *at = strstr(text, needle); at; at = strstr(at + 1, needle)) {
        n++;
    }
    return n;
}

// The value of client `id` in tobogganing_client_bytes_sent, or -1 when it has no line.
static inline long long bytes_sent_of(tob_mirror *mirror, const char *id) {
    tob_manager *manager = new_manager();
    char *text = exposition_of(mirror, manager, TOB_PART_CLIENT);
    char prefix[300];
    snprintf(prefix, sizeof(prefix), "tobogganing_client_bytes_sent{client_id=\"%s\",", id);
    assert_true(count_of(text, prefix) <= 1);
    const char *line = strstr(text, prefix);
    long long value = -1;
    if (line) {
        value = atoll(strstr(line, "} ") + 2);
    }
    free(text);
    tob_manager_free(manager);
    return value;
}

#endif
