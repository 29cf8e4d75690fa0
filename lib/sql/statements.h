// tob_sql_statements is the list of the statements that a connection has prepared, known by the address of their text. A
// program has some dozens of them, so that looking through all is quicker than anything clever.
//
// Threads: one at a time. Errors: TOB_NO_MEMORY.
#ifndef TOB_SQL_STATEMENTS_H
#define TOB_SQL_STATEMENTS_H

#include <stddef.h>

#include "util/error.h"

typedef struct tob_sql_statement {
    const char *text;
    void *handle; // the engine's
} tob_sql_statement;

typedef struct tob_sql_statements {
    tob_sql_statement *items;
    size_t count;
    size_t capacity;
} tob_sql_statements;

// Its place in the list, or `count` when it is not there.
size_t tob_sql_statements_find(const tob_sql_statements *statements, const char *text);

// tob_sql_statements_add appends; handle: moved.
TOB_MUST_USE tob_error tob_sql_statements_add(tob_sql_statements *statements, const char *text, void *handle);

// Forgets all of them; the handles are the caller's to free before.
void tob_sql_statements_fini(tob_sql_statements *statements);

#endif
