// What the exporter shows of what ingestd sends: the input is a SnapshotResponse; its rows go into a mirror, its
// counters into the sums, and both are written out. The same bytes are then taken for a message of the bus and for a page
// of a replay.
//
// Promises: whatever names and labels hold, every line is one of the text format's (exposition 0.0.4): a comment,
// or name{labels} value, with quotes, backslashes and newlines escaped; nothing is written past the room given.
#include <string.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/exposition.h"
#include "exporter/follow.h"
#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "fuzz.h"
#include "util/log.h"
#include "util/text.h"
#include "wire/arena.h"

enum { MAX_INPUT_BYTES = 64 << 10, ARENA_BYTES = 4 << 20 };

// After the name: {label="value",…}. Returns what follows it.
static const char *check_labels(const char *at, const char *end) {
    FUZZ_CHECK(at < end && *at == '{');
    at++;
    while (at < end && *at != '}') {
        while (at < end && ((*at >= 'a' && *at <= 'z') || *at == '_')) {
            at++;
        }
        FUZZ_CHECK(end - at >= 2 && at[0] == '=' && at[1] == '"');
        for (at += 2; at < end && *at != '"'; at++) {
            if (*at == '\\') {
                at++;
                FUZZ_CHECK(at < end && (*at == '\\' || *at == '"' || *at == 'n'));
            }
        }
        FUZZ_CHECK(at < end);
        at++;
        if (at < end && *at == ',') {
            at++;
        }
    }
    FUZZ_CHECK(at < end);
    return at + 1;
}

static void check_line(const char *line, const char *end) {
    static const char prefix[] = "tobogganing_";
    if (line < end && *line == '#') {
        FUZZ_CHECK(end - line > 7 && (memcmp(line, "# HELP ", 7) == 0 || memcmp(line, "# TYPE ", 7) == 0));
        return;
    }
    FUZZ_CHECK((size_t)(end - line) > sizeof(prefix) && memcmp(line, prefix, sizeof(prefix) - 1) == 0);
    while (line < end && ((*line >= 'a' && *line <= 'z') || *line == '_')) {
        line++;
    }
    if (line < end && *line == '{') {
        line = check_labels(line, end);
    }
    FUZZ_CHECK(end - line >= 2 && *line == ' ');
    char number[64];
    char *number_end = NULL;
    size_t n = (size_t)(end - line - 1);
    FUZZ_CHECK(n < sizeof(number));
    memcpy(number, line + 1, n);
    number[n] = 0;
    FUZZ_CHECK(strtod(number, &number_end) >= 0 && *number_end == 0);
}

static void check_exposition(tob_mirror *mirror, tob_manager *manager) {
    tob_exposition exposition;
    char *piece = malloc(TOB_EXPOSITION_MIN_ROOM); // exactly: a sanitizer sees a byte too many
    FUZZ_CHECK(piece);
    tob_exposition_init(&exposition, mirror, manager, TOB_PART_ALL);
    for (;;) {
        size_t n = tob_exposition_read(&exposition, piece, TOB_EXPOSITION_MIN_ROOM);
        FUZZ_CHECK(n <= TOB_EXPOSITION_MIN_ROOM);
        if (n == 0) {
            break;
        }
        FUZZ_CHECK(piece[n - 1] == '\n' && tob_utf8_valid(piece, n));
        for (const char *line = piece; line < piece + n;) {
            const char *end = memchr(line, '\n', (size_t)(piece + n - line));
            check_line(line, end);
            line = end + 1;
        }
    }
    free(piece);
}

typedef struct exporter {
    tob_arena *arena;
    tob_mirror *mirror;
    tob_manager *manager;
    tob_follow *follow;
    tob_moment now;
} exporter;

static const void *unpack(exporter *e, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                          size_t n) {
    ProtobufCMessage *message = NULL;
    tob_arena_clear(e->arena);
    return tob_arena_unpack(e->arena, type, data, n, &message) ? NULL : message;
}

static void ask(exporter *e, tob_resync_kind kind) {
    tob_page_request request;
    e->now.monotonic_ms += 60000;
    FUZZ_CHECK(tob_follow_request(e->follow, true, e->now, &request));
    FUZZ_CHECK(request.kind == kind);
}

static void take_snapshot(exporter *e, const Tobogganing__V1__SnapshotResponse *page, size_t n) {
    tob_follow_options o = {.mirror = e->mirror,
                            .manager = e->manager,
                            .instance = page->instance,
                            .buckets = UINT64_MAX};
    FUZZ_CHECK(tob_follow_new(&o, page->epoch, (tob_moment){0}, &e->follow) == TOB_OK);
    ask(e, TOB_RESYNC_SNAPSHOT);
    tob_follow_snapshot(e->follow, page, n, e->now);
}

// A snapshot that is complete, so that a loss is replayed.
static void complete(exporter *e) {
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    uint64_t last[TOB_BUS_BUCKETS] = {0};
    tob_follow_options o = {.mirror = e->mirror, .manager = e->manager, .buckets = UINT64_MAX};
    tob_follow_free(e->follow);
    FUZZ_CHECK(tob_follow_new(&o, 0, e->now, &e->follow) == TOB_OK);
    ask(e, TOB_RESYNC_SNAPSHOT);
    position.segment = 1;
    page.position = &position;
    page.n_last_sequences = TOB_BUS_BUCKETS;
    page.last_sequences = last;
    tob_follow_snapshot(e->follow, &page, 1, e->now);
    FUZZ_CHECK(tob_follow_synced(e->follow));
}

static void take_others(exporter *e, const uint8_t *data, size_t n) {
    Tobogganing__V1__BusMessage lossy = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    complete(e);
    const Tobogganing__V1__BusMessage *message =
        unpack(e, &tobogganing__v1__bus_message__descriptor, data, n);
    if (message) {
        tob_follow_bus(e->follow, message, e->now);
    }
    complete(e);
    lossy.topic = 1;
    lossy.sequence = 2;
    tob_follow_bus(e->follow, &lossy, e->now);
    ask(e, TOB_RESYNC_REPLAY);
    const Tobogganing__V1__ReplayResponse *page =
        unpack(e, &tobogganing__v1__replay_response__descriptor, data, n);
    if (page) {
        tob_follow_replay(e->follow, page, n, e->now);
    }
    check_exposition(e->mirror, e->manager);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    exporter e = {.now = {.monotonic_ms = 1000000, .unix_ms = 1800000000000}};
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    FUZZ_CHECK(tob_log_configure("fuzz_exposition", "error", "logfmt") == TOB_OK);
    FUZZ_CHECK(tob_arena_new(ARENA_BYTES, &e.arena) == TOB_OK);
    const Tobogganing__V1__SnapshotResponse *page =
        unpack(&e, &tobogganing__v1__snapshot_response__descriptor, data, n);
    tob_mirror_options options = {.max_sources = 1000, .expire_after_ms = UINT64_C(1) << 60};
    FUZZ_CHECK(tob_mirror_new(&options, &e.mirror) == TOB_OK);
    FUZZ_CHECK(tob_manager_new(&e.manager) == TOB_OK);
    if (page) {
        take_snapshot(&e, page, n);
        check_exposition(e.mirror, e.manager);
    }
    take_others(&e, data, n);
    tob_follow_free(e.follow);
    tob_manager_free(e.manager);
    tob_mirror_free(e.mirror);
    tob_arena_free(e.arena);
    return 0;
}
