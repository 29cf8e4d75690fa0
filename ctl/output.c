#include "ctl/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl/command.h"

int tob_ctl_print_json(json_t *value) {
    if (!value) {
        fprintf(stderr, TOB_CTL_PROGRAM ": out of memory\n");
        return 1;
    }
    json_dumpf(value, stdout, JSON_INDENT(2)); // a failed write stays in ferror(stdout)
    json_decref(value);
    putchar('\n');
    return tob_ctl_finish(0);
}

// Characters of UTF-8 text, as good a width as any without a terminal's tables.
static size_t width_of(const char *text) {
    size_t n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

// The text of one cell; `room` is for those that must be formatted.
static const char *cell(const json_t *object, const char *field, char room[TOB_CTL_TIME_BYTES]) {
    const json_t *value = json_object_get(object, field);
    const char *text = json_string_value(value);
    size_t len = strlen(field);
    if (json_is_integer(value) && len > 8 && strcmp(field + len - 8, "_unix_ms") == 0) {
        text = tob_ctl_time((uint64_t)json_integer_value(value), room);
    } else if (json_is_integer(value)) {
        snprintf(room, TOB_CTL_TIME_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        text = room;
    }
    return text && *text ? text : "-";
}

static void print_cell(const tob_ctl_table *table, size_t column, const char *text) {
    size_t width = width_of(text);
    int padding = column + 1 < table->column_count ? (int)(table->widths[column] - width + 2) : 0;
    printf("%s%*s", text, padding, "");
}

void tob_ctl_print_page(tob_ctl_table *table, const json_t *objects) {
    char room[TOB_CTL_TIME_BYTES];
    const json_t *object = NULL;
    size_t row = 0;
    bool first = table->widths[0] == 0;
    for (size_t i = 0; i < table->column_count; i++) {
        size_t title = width_of(table->columns[i].title);
        table->widths[i] = title > table->widths[i] ? title : table->widths[i];
        json_array_foreach(objects, row, object) {
            size_t width = width_of(cell(object, table->columns[i].field, room));
            table->widths[i] = width > table->widths[i] ? width : table->widths[i];
        }
    }
    for (size_t i = 0; first && i < table->column_count; i++) {
        print_cell(table, i, table->columns[i].title);
    }
    if (first) {
        putchar('\n');
    }
    json_array_foreach(objects, row, object) {
        for (size_t i = 0; i < table->column_count; i++) {
            print_cell(table, i, cell(object, table->columns[i].field, room));
        }
        putchar('\n');
    }
}

const char *tob_ctl_time(uint64_t unix_ms, char to[TOB_CTL_TIME_BYTES]) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    to[0] = 0;
    if (unix_ms && gmtime_r(&seconds, &tm)) {
        strftime(to, TOB_CTL_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    return to;
}

int tob_ctl_finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, TOB_CTL_PROGRAM ": writing failed: %s\n", strerror(errno));
        return 1;
    }
    return status;
}
