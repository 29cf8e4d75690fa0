#include "exporter/counter_keys.h"

#include <string.h>

#include "exporter/label_block.h"
#include "util/text.h"

#define MAX_LABELS 3

// As process.proto has them.
static const struct family_labels {
    size_t count;
    const char *names[MAX_LABELS];
} family_labels[] = {
    [TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNSPECIFIED] = {0, {NULL}},
    [TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_HTTP_REQUESTS] = {3, {"method", "endpoint", "status"}},
    [TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS] = {2, {"type", "result"}},
    [TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED] = {1, {"type"}},
    [TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS] = {0, {NULL}},
};

// Counters that exist from the start, at 0, so that a first event is an increase from something and the
// families are there to be found.
static const struct preset {
    Tobogganing__V1__CounterFamily family;
    const char *labels[MAX_LABELS];
} presets[] = {
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"api_key", "success"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"api_key", "failure"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"jwt", "success"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"jwt", "failure"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"metrics", "success"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"metrics", "failure"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"admin", "success"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"admin", "failure"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"cluster", "success"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, {"cluster", "failure"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED, {"client"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED, {"headend"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED, {"server"}},
    {TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS, {NULL}},
};

size_t tob_counter_key(Tobogganing__V1__CounterFamily family, size_t label_count, const char *const *labels,
                       char to[TOB_COUNTER_KEY_BYTES]) {
    if (family <= TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNSPECIFIED ||
        (size_t)family >= sizeof(family_labels) / sizeof(family_labels[0]) ||
        label_count != family_labels[family].count) {
        return 0;
    }
    char *at = to;
    *at++ = (char)family;
    for (size_t i = 0; i < label_count; i++) {
        const char *name = family_labels[family].names[i];
        size_t len = strlen(labels[i]);
        if (len > TOB_MANAGER_MAX_LABEL || !tob_name_valid(labels[i], len)) {
            return 0;
        }
        if (i) {
            *at++ = ',';
        }
        memcpy(at, name, strlen(name));
        at += strlen(name);
        *at++ = '=';
        *at++ = '"';
        at = tob_escape_label(at, labels[i], len);
        *at++ = '"';
    }
    return (size_t)(at - to);
}

size_t tob_counter_preset_key(size_t i, char to[TOB_COUNTER_KEY_BYTES]) {
    if (i >= sizeof(presets) / sizeof(presets[0])) {
        return 0;
    }
    const struct preset *p = &presets[i];
    return tob_counter_key(p->family, family_labels[p->family].count, p->labels, to);
}
