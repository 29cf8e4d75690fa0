// What the exporter shows of what ingestd sends: the input is a SnapshotResponse; its rows go into a mirror, its
// counters into the sums, and both are written out.
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const tob_moment now = {.monotonic_ms = 1000000, .unix_ms = 1800000000000};
    tob_arena *arena = NULL;
    tob_mirror *mirror = NULL;
    tob_manager *manager = NULL;
    tob_follow *follow = NULL;
    ProtobufCMessage *message = NULL;
    Tobogganing__V1__SnapshotRequest request;
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    FUZZ_CHECK(tob_log_configure("fuzz_exposition", "error", "logfmt") == TOB_OK);
    FUZZ_CHECK(tob_arena_new(ARENA_BYTES, &arena) == TOB_OK);
    if (tob_arena_unpack(arena, &tobogganing__v1__snapshot_response__descriptor, data, n, &message) ==
        TOB_OK) {
        tob_mirror_options options = {.max_sources = 1000, .expire_after_ms = UINT64_C(1) << 60};
        FUZZ_CHECK(tob_mirror_new(&options, &mirror) == TOB_OK);
        FUZZ_CHECK(tob_manager_new(&manager) == TOB_OK);
        FUZZ_CHECK(tob_follow_new(mirror, manager, (tob_moment){0}, &follow) == TOB_OK);
        tob_follow_tick(follow, now); // nothing was heard on the bus: it polls
        FUZZ_CHECK(tob_follow_request(follow, now, &request));
        tob_follow_page(follow, (const Tobogganing__V1__SnapshotResponse *)message, now);
        check_exposition(mirror, manager);
    }
    tob_follow_free(follow);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
    tob_arena_free(arena);
    return 0;
}
