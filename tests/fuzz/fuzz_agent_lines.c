// What --from-stdin of the agent reads: a stream cut into lines, and each line as a report. Every 16th byte of the
// input says in which pieces the content arrives, which is the others; content 0x01 stands for 3 000 letters, so that
// lines over the limit occur.
//
// Promises: the lines do not depend on the pieces; an accepted line's report has a valid id and values in range; a
// refused one has a reason.
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "agent/line_report.h"
#include "agent/lines.h"
#include "fuzz.h"

#define NOW_UNIX_MS UINT64_C(1800000000000)

enum { MAX_INPUT_BYTES = 16 << 10, LETTERS = 3000, MAX_EXPANSIONS = 64 };

static void check_values(const tob_agent_report *report) {
    const tob_client_sample *client = &report->sample.client;
    const tob_headend_sample *headend = &report->sample.headend;
    FUZZ_CHECK(tob_id_valid(report->id, strlen(report->id)));
    FUZZ_CHECK(report->credential && *report->credential);
    if (report->kind == TOB_SOURCE_CLIENT) {
        FUZZ_CHECK(client->present >> TOB_CLIENT_METRICS == 0 && client->time_unix_ms >= 0);
        for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
            FUZZ_CHECK(!(client->present >> m & 1) || client->values[m] >= 0);
        }
    } else {
        FUZZ_CHECK(headend->present >> TOB_HEADEND_METRICS == 0 && headend->time_unix_ms >= 0);
        for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
            FUZZ_CHECK(!(headend->present >> m & 1) ||
                       (isfinite(headend->values[m]) && headend->values[m] >= 0));
        }
    }
}

static void check_report(tob_source_kind kind, const char *text, size_t len) {
    const tob_line_defaults defaults = {.kind = kind, .id = "own-id", .credential = "own-key", .name = "own"};
    tob_line_report report;
    tob_problem problem = {.text = ""};
    if (tob_line_report_parse(&defaults, text, len, NOW_UNIX_MS, &report, &problem) == TOB_OK) {
        check_values(&report.report);
        tob_line_report_fini(&report);
    } else {
        FUZZ_CHECK(problem.text[0] && strnlen(problem.text, sizeof(problem.text)) < sizeof(problem.text));
    }
}

// The line that begins at *at, cut the plain way.
static void check_line(const tob_line *line, const uint8_t *content, size_t n, size_t *at) {
    const uint8_t *start = content + *at;
    const uint8_t *newline = memchr(start, '\n', n - *at);
    size_t len = newline ? (size_t)(newline - start) : n - *at;
    FUZZ_CHECK(line->too_long == (len > TOB_MAX_LINE_BYTES));
    if (!line->too_long) {
        FUZZ_CHECK(line->len == len && memcmp(line->text, start, len) == 0);
        check_report(line->number & 1 ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND, line->text, line->len);
    }
    *at += len + (newline ? 1 : 0);
}

static void check_lines(const uint8_t *content, size_t n, const uint8_t *pieces, size_t piece_count) {
    tob_lines lines;
    tob_line line;
    size_t given = 0, at = 0, piece = 0;
    uint64_t number = 0;
    FUZZ_CHECK(tob_lines_init(&lines) == TOB_OK);
    for (bool ended = false; !ended;) {
        size_t room = 0;
        char *to = tob_lines_room(&lines, &room);
        FUZZ_CHECK(room > 0);
        size_t size = piece_count ? pieces[piece++ % piece_count] * 100u + 1 : room;
        size = size < room ? size : room;
        size = size < n - given ? size : n - given;
        memcpy(to, content + given, size);
        tob_lines_added(&lines, size);
        given += size;
        ended = size == 0;
        while (tob_lines_next(&lines, &line)) {
            FUZZ_CHECK(line.number == ++number && at < n);
            check_line(&line, content, n, &at);
        }
    }
    FUZZ_CHECK(at == n);
    tob_lines_fini(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static uint8_t content[MAX_INPUT_BYTES + MAX_EXPANSIONS * LETTERS];
    static uint8_t pieces[MAX_INPUT_BYTES];
    size_t content_len = 0, piece_count = 0, expansions = 0;
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (i % 16 == 15) {
            pieces[piece_count++] = data[i];
        } else if (data[i] == 1 && expansions < MAX_EXPANSIONS) {
            memset(content + content_len, 'x', LETTERS);
            content_len += LETTERS;
            expansions++;
        } else {
            content[content_len++] = data[i];
        }
    }
    check_lines(content, content_len, pieces, piece_count);
    return 0;
}
