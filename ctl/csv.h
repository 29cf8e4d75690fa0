// tob_csv reads CSV (RFC 4180) record by record out of a text in memory: quoted fields, with commas, quotes and line
// breaks in them; lines that end with CR LF or LF; a UTF-8 byte order mark in front is skipped, and so are empty lines.
//
// Threads: one. Errors: TOB_MALFORMED and TOB_TOO_LARGE, with the place; reading may go on with the next line.
#ifndef TOB_CTL_CSV_H
#define TOB_CTL_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "util/error.h"

#define TOB_CSV_MAX_RECORD_BYTES 16384
#define TOB_CSV_MAX_FIELDS       32

typedef struct tob_csv {
    char *at;
    char *end;
    uint32_t line;   // of `at`, from 1
    uint32_t column; // of `at` in characters, from 1
} tob_csv;

typedef struct tob_csv_field {
    const char *text; // of the text, without the quotes; a NUL after it, none in it
    size_t len;
    uint32_t line, column; // where it begins
} tob_csv_field;

typedef struct tob_csv_record {
    uint32_t line; // where it begins
    size_t count;  // at least 1
    tob_csv_field fields[TOB_CSV_MAX_FIELDS];
} tob_csv_record;

typedef struct tob_csv_problem {
    uint32_t line, column;
    const char *text; // a literal
} tob_csv_problem;

// tob_csv_init
//   text   borrowed as long as fields are used; it is written to, and text[len] too
void tob_csv_init(tob_csv *csv, char *text, size_t len);

// tob_csv_next reads one record.
//   ret       valid as long as the text
//   problem   set with TOB_MALFORMED and TOB_TOO_LARGE. A quote that is not closed ends the text, because what follows
//             can't be told apart; after any other problem the next record is the next line.
// Errors: TOB_NOT_FOUND at the end.
TOB_MUST_USE tob_error tob_csv_next(tob_csv *csv, tob_csv_record *ret, tob_csv_problem *problem);

// tob_csv_write_field writes a field, in quotes where it needs them. The caller writes commas and line ends.
void tob_csv_write_field(FILE *to, const char *text);

#endif
