// Checks and conversions of text from outside. Threads: any.
#ifndef TOB_UTIL_TEXT_H
#define TOB_UTIL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_MAX_ID_BYTES   128
#define TOB_MAX_NAME_BYTES 256
#define TOB_ADDRESS_BYTES  320 // longer ones are cut

// tob_id_valid: 1–128 bytes of [A-Za-z0-9._:-].
bool tob_id_valid(const char *id, size_t len);

// tob_name_valid: at most 256 bytes of UTF-8 without control characters. Empty is valid.
bool tob_name_valid(const char *name, size_t len);

// tob_utf8_valid: well-formed (Unicode 15, table 3-7), no NUL.
bool tob_utf8_valid(const char *text, size_t len);

// tob_parse_u64 reads a whole decimal number. TOB_INVALID for anything else or over `max`.
TOB_MUST_USE tob_error tob_parse_u64(const char *text, uint64_t max, uint64_t *ret);

// tob_parse_duration_ms: a number with ms, s, m, h or d; a bare number is seconds.
TOB_MUST_USE tob_error tob_parse_duration_ms(const char *text, uint64_t *ret);

// tob_parse_bytes: a number with an optional KiB, MiB or GiB.
TOB_MUST_USE tob_error tob_parse_bytes(const char *text, uint64_t *ret);

// tob_address_with_port replaces what follows the last colon of "HOST:PORT" or a URL, which a bound port 0 needs.
void tob_address_with_port(const char *address, uint16_t port, char ret[TOB_ADDRESS_BYTES]);

// tob_base64url_encode writes RFC 4648 §5 without padding and a NUL: to needs (n * 4 + 2) / 3 + 1 bytes.
void tob_base64url_encode(const void *bytes, size_t n, char *to);

#endif
