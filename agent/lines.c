#include "agent/lines.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 2 * (TOB_MAX_LINE_BYTES + 1) };

tob_error tob_lines_init(tob_lines *lines) {
    *lines = (tob_lines){.data = malloc(CAPACITY)};
    return lines->data ? TOB_OK : TOB_NO_MEMORY;
}

void tob_lines_fini(tob_lines *lines) {
    if (lines->data) {
        explicit_bzero(lines->data, CAPACITY); // lines may hold credentials
    }
    free(lines->data);
    *lines = (tob_lines){0};
}

char *tob_lines_room(tob_lines *lines, size_t *ret_room) {
    if (lines->start) {
        memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
    }
    *ret_room = CAPACITY - lines->end;
    return lines->data + lines->end;
}

void tob_lines_added(tob_lines *lines, size_t n) {
    lines->end += n;
    lines->ended = n == 0;
}

bool tob_lines_next(tob_lines *lines, tob_line *ret) {
    const char *start = lines->data + lines->start;
    size_t have = lines->end - lines->start;
    const char *newline = memchr(start, '\n', have);
    if (!newline && have > TOB_MAX_LINE_BYTES) { // drop what there is of it, and the rest as it comes
        lines->skipping = true;
        lines->start = lines->end;
        have = 0;
    }
    if (!newline && !(lines->ended && (have || lines->skipping))) {
        return false;
    }
    size_t len = newline ? (size_t)(newline - start) : have;
    bool too_long = lines->skipping || len > TOB_MAX_LINE_BYTES;
    lines->start += len + (newline ? 1 : 0);
    lines->skipping = false;
    *ret = (tob_line){.text = too_long ? "" : start,
                      .len = too_long ? 0 : len,
                      .number = ++lines->number,
                      .too_long = too_long};
    return true;
}
