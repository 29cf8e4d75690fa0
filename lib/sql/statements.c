#include "sql/statements.h"

#include <stdlib.h>

size_t tob_sql_statements_find(const tob_sql_statements *statements, const char *text) {
    size_t i = 0;
    while (i < statements->count && statements->items[i].text != text) {
        i++;
    }
    return i;
}

tob_error tob_sql_statements_add(tob_sql_statements *statements, const char *text, void *handle) {
    if (statements->count == statements->capacity) {
        size_t capacity = statements->capacity ? statements->capacity * 2 : 32;
        tob_sql_statement *items = reallocarray(statements->items, capacity, sizeof(*items));
        if (!items) {
            return TOB_NO_MEMORY;
        }
        statements->items = items;
        statements->capacity = capacity;
    }
    statements->items[statements->count++] = (tob_sql_statement){.text = text, .handle = handle};
    return TOB_OK;
}

void tob_sql_statements_fini(tob_sql_statements *statements) {
    free(statements->items);
    *statements = (tob_sql_statements){0};
}
