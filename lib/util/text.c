#include "util/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tob_id_valid(const char *id, size_t len) {
    if (len == 0 || len > TOB_MAX_ID_BYTES) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = id[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == ':' || c == '-';
        if (!ok) {
            return false;
        }
    }
    return true;
}

// Length of the well-formed sequence at s (1–4), or 0.
static size_t utf8_sequence(const unsigned char *s, size_t len) {
    unsigned char low = 0x80, high = 0xbf;
    size_t n = 0;
    if (s[0] < 0x80) {
        return s[0] ? 1 : 0;
    } else if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        n = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        n = 3;
        low = s[0] == 0xe0 ? 0xa0 : low;
        high = s[0] == 0xed ? 0x9f : high;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        n = 4;
        low = s[0] == 0xf0 ? 0x90 : low;
        high = s[0] == 0xf4 ? 0x8f : high;
    }
    if (n == 0 || n > len || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

// Are the next eight bytes ASCII, and none of them NUL? Almost all text is, and is checked eight times as fast.
static bool ascii8(const unsigned char *s) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t word = 0;
    memcpy(&word, s, sizeof(word));
    return ((word | (word - ones)) & tops) == 0; // without top bits, only a NUL borrows into one
}

bool tob_utf8_valid(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < len;) {
        if (len - i >= 8 && ascii8(s + i)) {
            i += 8;
            continue;
        }
        size_t n = utf8_sequence(s + i, len - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

bool tob_name_valid(const char *name, size_t len) {
    if (len > TOB_MAX_NAME_BYTES || !tob_utf8_valid(name, len)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

// Reads digits; `rest` is what follows them.
static tob_error parse_prefix(const char *text, uint64_t *ret, const char **rest) {
    if (*text < '0' || *text > '9') {
        return TOB_INVALID;
    }
    errno = 0;
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno) {
        return TOB_INVALID;
    }
    *ret = value;
    *rest = end;
    return TOB_OK;
}

tob_error tob_parse_u64(const char *text, uint64_t max, uint64_t *ret) {
    const char *rest = NULL;
    uint64_t value = 0;
    if (parse_prefix(text, &value, &rest) || *rest || value > max) {
        return TOB_INVALID;
    }
    *ret = value;
    return TOB_OK;
}

typedef struct unit {
    const char *name;
    uint64_t factor;
} unit;

static tob_error parse_with_unit(const char *text, const unit *units, size_t n, uint64_t *ret) {
    const char *rest = NULL;
    uint64_t value = 0;
    if (parse_prefix(text, &value, &rest)) {
        return TOB_INVALID;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rest, units[i].name) == 0) {
            return __builtin_mul_overflow(value, units[i].factor, ret) ? TOB_INVALID : TOB_OK;
        }
    }
    return TOB_INVALID;
}

tob_error tob_parse_duration_ms(const char *text, uint64_t *ret) {
    static const unit units[] = {{"ms", 1},    {"s", 1000},    {"", 1000},
                                 {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret);
}

tob_error tob_parse_bytes(const char *text, uint64_t *ret) {
    static const unit units[] = {{"", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}};
    return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret);
}

void tob_address_with_port(const char *address, uint16_t port, char ret[TOB_ADDRESS_BYTES]) {
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : strlen(address);
    snprintf(ret, TOB_ADDRESS_BYTES, "%.*s:%u", (int)(len < TOB_ADDRESS_BYTES ? len : TOB_ADDRESS_BYTES),
             address, port);
}

void tob_base64url_encode(const void *bytes, size_t n, char *to) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = (uint32_t)b[i] << 16;
        group |= i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0;
        group |= i + 2 < n ? (uint32_t)b[i + 2] : 0;
        *to++ = alphabet[group >> 18];
        *to++ = alphabet[(group >> 12) & 63];
        if (i + 1 < n) {
            *to++ = alphabet[(group >> 6) & 63];
        }
        if (i + 2 < n) {
            *to++ = alphabet[group & 63];
        }
    }
    *to = 0;
}
