// tob_lines cuts a stream of bytes into lines and numbers them from 1. Bytes come from the caller, who reads
// them when there are some: nothing here blocks.
//
// Threads: one at a time.
#ifndef TOB_AGENT_LINES_H
#define TOB_AGENT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_MAX_LINE_BYTES 65536 // without the newline

typedef struct tob_lines {
    char *data;
    size_t start; // of what is not yet taken
    size_t end;
    uint64_t number;
    bool skipping; // inside a line that is too long
    bool ended;
} tob_lines;

typedef struct tob_line {
    const char *text; // borrowed until the next tob_lines_room; no newline, no NUL
    size_t len;
    uint64_t number;
    bool too_long; // over TOB_MAX_LINE_BYTES: no text
} tob_line;

TOB_MUST_USE tob_error tob_lines_init(tob_lines *lines); // TOB_NO_MEMORY
void tob_lines_fini(tob_lines *lines);

// tob_lines_room returns where to put the next bytes, and for how many there is room: never 0 after
// tob_lines_next returned false.
char *tob_lines_room(tob_lines *lines, size_t *ret_room);

// tob_lines_added: n bytes were put there. 0 is the end of the stream.
void tob_lines_added(tob_lines *lines, size_t n);

// tob_lines_next takes the next line; false when more bytes are needed, or none are left.
bool tob_lines_next(tob_lines *lines, tob_line *ret);

#endif
