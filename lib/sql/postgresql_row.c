#include <assert.h>
#include <string.h>

#include "sql/postgresql.h"

static const PGresult *result_of(const tob_sql_row *row) {
    return ((const tob_pg_row *)row)->result;
}

tob_error tob_pg_row_check(tob_pg *pg, const PGresult *result) {
    for (int i = 0; i < PQnfields(result); i++) {
        switch (PQftype(result, i)) {
        case TOB_PG_BOOL:
        case TOB_PG_BYTEA:
        case TOB_PG_NAME:
        case TOB_PG_INT8:
        case TOB_PG_INT2:
        case TOB_PG_INT4:
        case TOB_PG_TEXT:
        case TOB_PG_VARCHAR:
        case TOB_PG_VOID: break;
        default:
            tob_sql_tell(&pg->base, "column %d of a statement has the type %u: cast it", i + 1,
                         PQftype(result, i));
            return TOB_INTERNAL;
        }
    }
    return TOB_OK;
}

// libpq ends every value with a NUL that does not count.
const char *tob_pg_row_text(const tob_sql_row *row, unsigned column) {
    assert(column < (unsigned)PQnfields(result_of(row)));
    return PQgetvalue(result_of(row), 0, (int)column); // "" for NULL
}

// Big-endian, two's complement (PostgreSQL's int8send and so on).
uint64_t tob_pg_row_integer(const tob_sql_row *row, unsigned column) {
    const PGresult *result = result_of(row);
    assert(column < (unsigned)PQnfields(result));
    const uint8_t *bytes = (const uint8_t *)PQgetvalue(result, 0, (int)column);
    int n = PQgetlength(result, 0, (int)column);
    assert(PQftype(result, (int)column) != TOB_PG_TEXT && n <= 8);
    uint64_t number = n > 1 && bytes[0] & 0x80 ? UINT64_MAX : 0; // a boolean is one byte, and has no sign
    for (int i = 0; i < n; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

const void *tob_pg_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size) {
    const PGresult *result = result_of(row);
    assert(column < (unsigned)PQnfields(result));
    *ret_size = (size_t)PQgetlength(result, 0, (int)column);
    return PQgetisnull(result, 0, (int)column) ? NULL : PQgetvalue(result, 0, (int)column);
}
