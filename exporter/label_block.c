#include "exporter/label_block.h"

#include <string.h>

#include "util/text.h"

static const char *const label_names[TOB_SOURCE_KINDS][1 + TOB_MIRROR_LABELS] = {
    [TOB_SOURCE_CLIENT] = {"client_id", "name", "type", "headless"},
    [TOB_SOURCE_HEADEND] = {"headend_id", "name", "region", "datacenter"},
};

size_t tob_label_block_id_at(tob_source_kind kind) {
    return strlen(label_names[kind][0]) + 2;
}

char *tob_escape_label(char *to, const char *value, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = value[i];
        if (c == '\\' || c == '"' || c == '\n') {
            *to++ = '\\';
            c = c == '\n' ? 'n' : c;
        }
        *to++ = c;
    }
    return to;
}

static char *write_label(char *to, const char *name, const char *value) {
    size_t n = strlen(name);
    memcpy(to, name, n);
    to += n;
    *to++ = '=';
    *to++ = '"';
    to = tob_escape_label(to, value, strlen(value));
    *to++ = '"';
    return to;
}

size_t tob_label_block_render(tob_source_kind kind, const tob_mirror_row *row, char *to) {
    char *at = write_label(to, label_names[kind][0], row->id);
    for (size_t i = 0; i < TOB_MIRROR_LABELS; i++) {
        *at++ = ',';
        at = write_label(at, label_names[kind][1 + i], row->labels[i]);
    }
    return (size_t)(at - to);
}

bool tob_mirror_row_valid(tob_source_kind kind, const tob_mirror_row *row) {
    if (!tob_id_valid(row->id, strlen(row->id)) || row->present >> TOB_MIRROR_VALUES ||
        row->last_check_in_unix_ms > INT64_MAX || row->owner >= TOB_MIRROR_MAX_OWNERS) {
        return false;
    }
    for (size_t i = 0; i < TOB_MIRROR_LABELS; i++) {
        if (!tob_name_valid(row->labels[i], strlen(row->labels[i]))) {
            return false;
        }
    }
    for (size_t i = 0; i < TOB_MIRROR_VALUES; i++) {
        bool good = kind == TOB_SOURCE_CLIENT ? row->values[i].integer <= INT64_MAX
                                              : row->values[i].real >= 0 && row->values[i].real <= 0x1p63;
        if ((row->present >> i & 1) && !good) {
            return false;
        }
    }
    return true;
}
