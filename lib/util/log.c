#include "util/log.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *program;
    tob_log_level level;
    tob_log_format format;
} logger = {.program = "tobogganing", .level = TOB_LOG_INFO, .format = TOB_LOG_LOGFMT};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

tob_error tob_log_configure(const char *program, const char *level, const char *format) {
    size_t l = 0;
    while (l < sizeof(level_names) / sizeof(level_names[0]) && strcmp(level, level_names[l]) != 0) {
        l++;
    }
    if (l == sizeof(level_names) / sizeof(level_names[0])) {
        return TOB_INVALID;
    }
    bool json = strcmp(format, "json") == 0;
    if (!json && strcmp(format, "logfmt") != 0) {
        return TOB_INVALID;
    }
    logger.program = program;
    logger.level = (tob_log_level)l;
    logger.format = json ? TOB_LOG_JSON : TOB_LOG_LOGFMT;
    return TOB_OK;
}

typedef struct line {
    char text[TOB_LOG_MAX_LINE];
    size_t len;
} line;

// One byte is kept for the newline.
static void put(line *l, const char *bytes, size_t len) {
    size_t room = sizeof(l->text) - 1 - l->len;
    size_t n = len < room ? len : room;
    memcpy(l->text + l->len, bytes, n);
    l->len += n;
}

static void put_text(line *l, const char *text) {
    put(l, text, strlen(text));
}

static void put_quoted(line *l, const char *text) {
    put(l, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        char escaped[8];
        if (*c == '"' || *c == '\\') {
            put(l, (const char[]){'\\', (char)*c}, 2);
        } else if (*c < 0x20 || *c == 0x7f) {
            put(l, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", *c));
        } else {
            put(l, (const char *)c, 1);
        }
    }
    put(l, "\"", 1);
}

static bool is_bare(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c <= ' ' || *c == '=' || *c == '"' || *c == '\\' || *c == 0x7f) {
            return false;
        }
    }
    return *text;
}

static void put_string(line *l, const char *text) {
    if (logger.format == TOB_LOG_LOGFMT && is_bare(text)) {
        put_text(l, text);
    } else {
        put_quoted(l, text);
    }
}

static void put_key(line *l, const char *key) {
    if (logger.format == TOB_LOG_JSON) {
        put_text(l, l->len > 1 ? ",\"" : "\"");
        put_text(l, key);
        put_text(l, "\":");
    } else {
        put_text(l, l->len ? " " : "");
        put_text(l, key);
        put_text(l, "=");
    }
}

static void put_field(line *l, const tob_log_field *field) {
    char number[40];
    put_key(l, field->key);
    switch (field->kind) {
    case TOB_FIELD_STRING: put_string(l, field->value.string ? field->value.string : ""); return;
    case TOB_FIELD_INT: snprintf(number, sizeof(number), "%" PRId64, field->value.i); break;
    case TOB_FIELD_UINT: snprintf(number, sizeof(number), "%" PRIu64, field->value.u); break;
    case TOB_FIELD_DOUBLE: snprintf(number, sizeof(number), "%.6g", field->value.d); break;
    }
    put_text(l, number);
}

void tob_log_write(tob_log_level level, const char *event, const tob_log_field *fields) {
    if (level < logger.level) {
        return;
    }
    line l = {.len = 0};
    struct timespec now;
    struct tm utc;
    char at[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(at + n, sizeof(at) - n, ".%03ldZ", now.tv_nsec / 1000000);

    if (logger.format == TOB_LOG_JSON) {
        put_text(&l, "{");
    }
    put_field(&l, &TOB_STR("time", at));
    put_field(&l, &TOB_STR("level", level_names[level]));
    put_field(&l, &TOB_STR("program", logger.program));
    put_field(&l, &TOB_STR("event", event));
    for (; fields->key; fields++) {
        put_field(&l, fields);
    }
    if (logger.format == TOB_LOG_JSON) {
        put_text(&l, "}");
    }
    l.text[l.len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l.text, l.len);
    (void)ignored; // nowhere to say so
}
