// What tobogganctl prints on stdout: protobuf messages as JSON, or columns for people.
//
// Threads: main thread. Errors: a write that fails (a full disk, a closed pipe) is reported once, by
// tob_ctl_finish.
#ifndef TOB_CTL_OUTPUT_H
#define TOB_CTL_OUTPUT_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "report/message_json.h"
#include "util/options.h"

#define TOB_CTL_MAX_COLUMNS 10

// The option --json; target: bool.
#define TOB_CTL_JSON_OPTION(target_)                                                                         \
    { .name = "json", .kind = TOB_OPTION_FLAG, .target = (target_), .help = "Print JSON." }

// tob_ctl_json makes JSON of any message, under the names of its .proto: 64-bit identities (fixed64) become
// 16 hex digits, enums their names, numbers over 2^63-1 strings, bytes hex digits (none when there are none). Owned
// by the caller, json_decref; NULL: no memory.
json_t *tob_ctl_json(const ProtobufCMessage *message);

// tob_ctl_print_json prints and frees `value` (NULL: there was no memory to make it). Returns the exit
// status.
int tob_ctl_print_json(json_t *value);

// A table is printed in pages; columns only get wider.
typedef struct tob_ctl_column {
    const char *title;
    const char *field; // of the JSON objects; …_unix_ms and …_unix_s are shown as times
} tob_ctl_column;

typedef struct tob_ctl_table {
    const tob_ctl_column *columns;
    size_t column_count;
    size_t widths[TOB_CTL_MAX_COLUMNS]; // 0 at first
} tob_ctl_table;

// tob_ctl_print_page prints an array of objects, under titles when it is the first page. An empty cell is
// "-".
void tob_ctl_print_page(tob_ctl_table *table, const json_t *objects);

// tob_ctl_print_object prints the fields of an object one a line, for people; texts of several lines at the end.
void tob_ctl_print_object(const json_t *object);

// tob_ctl_progress shows how far it is, on one line of stderr that is written over, if that is a terminal. An empty
// text takes the line away: before anything else is printed.
void tob_ctl_progress(const char *format, ...) TOB_PRINTF(1, 2);

// tob_ctl_print_quoted prints a text in single quotes, as one word for a shell.
void tob_ctl_print_quoted(const char *text);

// tob_ctl_time is tob_time_text to the second, for people; "" for 0. Returns `to`.
const char *tob_ctl_time(uint64_t unix_ms, char to[TOB_TIME_TEXT_BYTES]);

// tob_ctl_finish flushes stdout: returns `status`, or 1 after printing why when that failed.
int tob_ctl_finish(int status);

#endif
