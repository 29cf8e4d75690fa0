#include "sql/driver.h"

tob_sql_value tob_sql_text(const char *text) {
    return (tob_sql_value){.kind = TOB_SQL_TEXT, .null = !text, .bytes = text};
}

tob_sql_value tob_sql_text_or_null(const char *text) {
    return tob_sql_text(text && text[0] ? text : NULL);
}

tob_sql_value tob_sql_integer(uint64_t number) {
    return (tob_sql_value){.kind = TOB_SQL_INTEGER,
                           .integer = number > INT64_MAX ? INT64_MAX : (int64_t)number};
}

tob_sql_value tob_sql_integer_or_null(uint64_t number) {
    tob_sql_value value = tob_sql_integer(number);
    value.null = number == 0;
    return value;
}

tob_sql_value tob_sql_blob(const void *bytes, size_t size) {
    return (tob_sql_value){.kind = TOB_SQL_BLOB, .null = !bytes, .bytes = bytes, .size = size};
}

const char *tob_sql_row_text(const tob_sql_row *row, unsigned column) {
    return row->driver->row_text(row, column);
}

uint64_t tob_sql_row_integer(const tob_sql_row *row, unsigned column) {
    return row->driver->row_integer(row, column);
}

const void *tob_sql_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size) {
    return row->driver->row_blob(row, column, ret_size);
}
