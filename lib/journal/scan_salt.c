// The salt of a segment whose header is lost, out of its records.
//
// The check of a record's header is a CRC over the salt, the offset and twelve bytes of the header (segment.c). A CRC's
// register can be run backwards: every record tells what the register was after the salt, and any salt that brings it
// there does. (The header holds the salt at offset 16.)

#include <string.h>

#include "journal/crc32c.h"
#include "journal/scan.h"
#include "journal/segment.h"

#define POLYNOMIAL 0x82f63b78u // CRC-32C, reflected

static uint32_t back(uint32_t state, const uint8_t *bytes, size_t n) {
    while (n > 0) {
        uint8_t byte = bytes[--n];
        for (int bit = 0; bit < 8; bit++) {
            state = state & 0x80000000u ? (state ^ POLYNOMIAL) << 1 | 1 : state << 1;
        }
        state ^= byte;
    }
    return state;
}

static void put64(uint8_t *to, uint64_t value) {
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

// A salt with which the header at `offset` passes: its low half is 0, its high half brings the register where the
// header's check wants it.
static uint64_t salt_for(const uint8_t header[TOB_RECORD_HEADER_BYTES], uint64_t offset) {
    static const uint8_t zeros[4] = {0};
    uint8_t bytes[20];
    put64(bytes, offset);
    memcpy(bytes + 8, header, 12);
    uint32_t after_salt = back(~get32(header + 12), bytes, sizeof(bytes));
    uint32_t after_low = ~tob_crc32c(0, zeros, sizeof(zeros));
    return (uint64_t)(back(after_salt, zeros, sizeof(zeros)) ^ after_low) << 32;
}

// Perhaps the header is damaged elsewhere.
static tob_error salt_in_header(tob_scan_file *file, uint64_t *ret, bool *ret_found) {
    const uint8_t *bytes = NULL;
    tob_scan_record first = {.whole = false};
    tob_error err = TOB_OK;
    if (file->bytes >= TOB_SEGMENT_HEADER_BYTES) {
        err = tob_scan_view(file, 0, TOB_SEGMENT_HEADER_BYTES, &bytes);
        if (!err) {
            *ret = get32(bytes + 16) | (uint64_t)get32(bytes + 20) << 32;
            err = tob_scan_read(file, *ret, TOB_SEGMENT_HEADER_BYTES, &first);
        }
    }
    *ret_found = first.whole;
    return err;
}

// What a record at `offset` would say about the salt. Any twelve bytes have a salt that makes their check pass; it is the
// file's when the payload passes too, and all the more when so does the header of the record after it.
static tob_error salt_at(tob_scan_file *file, uint64_t offset, uint64_t *ret, bool *ret_payload,
                         bool *ret_next) {
    const uint8_t *bytes = NULL;
    tob_scan_record r = {.whole = false}, next = {.header = false};
    *ret_payload = *ret_next = false;
    tob_error err = tob_scan_view(file, offset, TOB_RECORD_HEADER_BYTES, &bytes);
    if (err || tob_all_zero(bytes, TOB_RECORD_HEADER_BYTES)) {
        return err;
    }
    uint64_t salt = salt_for(bytes, offset);
    err = tob_scan_read(file, salt, offset, &r);
    if (!err && r.whole && r.head.length > 0 && r.head.group_offset >= TOB_SEGMENT_HEADER_BYTES) {
        *ret = salt;
        *ret_payload = true;
        err = tob_scan_read(file, salt, offset + tob_record_bytes(r.head.length), &next);
        *ret_next = next.header;
    }
    return err;
}

tob_error tob_scan_salt(tob_scan_file *file, uint64_t *ret, bool *ret_found) {
    tob_error err = salt_in_header(file, ret, ret_found);
    if (err || *ret_found) {
        return err;
    }
    for (uint64_t at = TOB_SEGMENT_HEADER_BYTES; !err && at + TOB_RECORD_HEADER_BYTES <= file->bytes;
         at += TOB_RECORD_ALIGN) {
        uint64_t salt = 0;
        bool payload = false, next = false;
        err = salt_at(file, at, &salt, &payload, &next);
        if (!err && payload && (next || !*ret_found)) {
            *ret = salt;
            *ret_found = true;
        }
        if (next) {
            break;
        }
    }
    return err;
}
