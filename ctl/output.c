#include "ctl/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/command.h"

int tob_ctl_print_json(json_t *value) {
    if (!value) {
        return tob_ctl_no_memory();
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

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

// The text of one cell; `room` is for those that must be formatted.
static const char *cell(const json_t *object, const char *field, char room[TOB_TIME_TEXT_BYTES]) {
    const json_t *value = json_object_get(object, field);
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        uint64_t number = (uint64_t)json_integer_value(value);
        text = room;
        if (ends_with(field, "_unix_ms")) {
            tob_ctl_time(number, room);
        } else if (ends_with(field, "_unix_s")) {
            tob_ctl_time(number * 1000, room);
        } else {
            snprintf(room, TOB_TIME_TEXT_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        }
    } else if (json_is_boolean(value)) {
        text = json_is_true(value) ? "yes" : "no";
    }
    return text && *text ? text : "-";
}

static void print_cell(const tob_ctl_table *table, size_t column, const char *text) {
    size_t width = width_of(text);
    int padding = column + 1 < table->column_count ? (int)(table->widths[column] - width + 2) : 0;
    printf("%s%*s", text, padding, "");
}

void tob_ctl_print_page(tob_ctl_table *table, const json_t *objects) {
    char room[TOB_TIME_TEXT_BYTES];
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

// "key_created_unix_ms" is "key created" for a person.
static void print_name(const char *field) {
    size_t n = strlen(field);
    n -= ends_with(field, "_unix_ms")  ? strlen("_unix_ms")
         : ends_with(field, "_unix_s") ? strlen("_unix_s")
                                       : 0;
    for (size_t i = 0; i < n; i++) {
        putchar(field[i] == '_' ? ' ' : field[i]);
    }
    printf("%*s", n < 24 ? (int)(24 - n) : 1, "");
}

void tob_ctl_print_object(const json_t *object) {
    char room[TOB_TIME_TEXT_BYTES];
    const char *field = NULL, *text = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, field, value) {
        text = cell(object, field, room);
        if (!json_is_object(value) && !json_is_array(value) && !strchr(text, '\n')) {
            print_name(field);
            printf("%s\n", text);
        }
    }
    json_object_foreach((json_t *)object, field, value) {
        text = json_string_value(value);
        if (text && strchr(text, '\n')) {
            printf("%s", text);
        }
    }
}

void tob_ctl_progress(const char *format, ...) {
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    va_list args;
    va_start(args, format);
    fputc('\r', stderr);
    vfprintf(stderr, format, args);
    fputs("\033[K", stderr); // erase to the end of the line (ECMA-48 EL)
    va_end(args);
}

void tob_ctl_print_quoted(const char *text) {
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'') {
            printf("'\\'");
        }
        putchar(*text);
    }
    putchar('\'');
}

const char *tob_ctl_time(uint64_t unix_ms, char to[TOB_TIME_TEXT_BYTES]) {
    to[0] = 0;
    return unix_ms ? tob_time_text(unix_ms / 1000 * 1000, to) : to;
}

int tob_ctl_finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, TOB_CTL_PROGRAM ": writing failed: %s\n", strerror(errno));
        return 1;
    }
    return status;
}
