#include "journal/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "journal/crc32c.h"
#include "journal/journal.h"

#define MAGIC_BYTES 4
static const uint8_t segment_magic[MAGIC_BYTES] = {'T', 'O', 'B', 'J'};
static const uint8_t checkpoint_magic[MAGIC_BYTES] = {'T', 'O', 'B', 'C'};

static void put32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void put64(uint8_t *to, uint64_t value) {
    put32(to, (uint32_t)value);
    put32(to + 4, (uint32_t)(value >> 32));
}

static uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint64_t get64(const uint8_t *from) {
    return get32(from) | (uint64_t)get32(from + 4) << 32;
}

void tob_segment_name(uint64_t segment, char ret[TOB_SEGMENT_NAME_BYTES]) {
    snprintf(ret, TOB_SEGMENT_NAME_BYTES, "journal-%016" PRIx64 ".seg", segment);
}

bool tob_segment_number(const char *name, uint64_t *ret) {
    uint64_t number = 0;
    if (sscanf(name, "journal-%16" SCNx64, &number) != 1) {
        return false;
    }
    char canonical[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(number, canonical);
    if (number == 0 || strcmp(name, canonical) != 0) {
        return false;
    }
    *ret = number;
    return true;
}

void tob_checkpoint_name(uint64_t segment, uint64_t offset, char ret[TOB_CHECKPOINT_NAME_BYTES]) {
    snprintf(ret, TOB_CHECKPOINT_NAME_BYTES, "checkpoint-%016" PRIx64 "-%016" PRIx64 ".ckpt", segment,
             offset);
}

bool tob_checkpoint_place(const char *name, uint64_t *ret_segment, uint64_t *ret_offset) {
    uint64_t segment = 0, offset = 0;
    if (sscanf(name, "checkpoint-%16" SCNx64 "-%16" SCNx64, &segment, &offset) != 2) {
        return false;
    }
    char canonical[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(segment, offset, canonical);
    if (segment == 0 || strcmp(name, canonical) != 0) {
        return false;
    }
    *ret_segment = segment;
    *ret_offset = offset;
    return true;
}

static void header_encode(const uint8_t magic[MAGIC_BYTES], uint64_t segment, uint64_t salt, uint64_t last,
                          uint8_t ret[TOB_SEGMENT_HEADER_BYTES]) {
    memcpy(ret, magic, MAGIC_BYTES);
    put32(ret + 4, TOB_SEGMENT_VERSION);
    put64(ret + 8, segment);
    put64(ret + 16, salt);
    put64(ret + 24, last);
    put32(ret + 32, tob_crc32c(0, ret, 32));
    put32(ret + 36, 0);
}

static tob_error header_check(const uint8_t magic[MAGIC_BYTES],
                              const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES]) {
    if (memcmp(bytes, magic, MAGIC_BYTES) != 0) {
        return TOB_DAMAGED;
    }
    // Every version keeps the check where it is, so that a flipped bit is not taken for a newer format.
    if (get32(bytes + 32) != tob_crc32c(0, bytes, 32)) {
        return TOB_DAMAGED;
    }
    return get32(bytes + 4) == TOB_SEGMENT_VERSION ? TOB_OK : TOB_PRECONDITION;
}

void tob_segment_header_encode(const tob_segment_header *header, uint8_t ret[TOB_SEGMENT_HEADER_BYTES]) {
    header_encode(segment_magic, header->segment, header->salt, header->previous_end, ret);
}

tob_error tob_segment_header_decode(const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES], tob_segment_header *ret) {
    tob_error err = header_check(segment_magic, bytes);
    if (!err) {
        *ret = (tob_segment_header){.segment = get64(bytes + 8),
                                    .salt = get64(bytes + 16),
                                    .previous_end = get64(bytes + 24)};
    }
    return err;
}

void tob_checkpoint_header_encode(const tob_checkpoint_header *header,
                                  uint8_t ret[TOB_SEGMENT_HEADER_BYTES]) {
    header_encode(checkpoint_magic, header->segment, header->salt, header->offset, ret);
}

tob_error tob_checkpoint_header_decode(const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES],
                                       tob_checkpoint_header *ret) {
    tob_error err = header_check(checkpoint_magic, bytes);
    if (!err) {
        *ret = (tob_checkpoint_header){.segment = get64(bytes + 8),
                                       .salt = get64(bytes + 16),
                                       .offset = get64(bytes + 24)};
    }
    return err;
}

uint64_t tob_record_bytes(uint64_t length) {
    return (TOB_RECORD_HEADER_BYTES + length + TOB_RECORD_ALIGN - 1) / TOB_RECORD_ALIGN * TOB_RECORD_ALIGN;
}

// Never 0, so that no record's header is all zeros: that is space not yet written.
static uint32_t header_crc(const uint8_t bytes[12], uint64_t salt, uint64_t offset) {
    uint8_t place[16];
    put64(place, salt);
    put64(place + 8, offset);
    uint32_t crc = tob_crc32c(tob_crc32c(0, place, sizeof(place)), bytes, 12);
    return crc ? crc : 1;
}

void tob_record_header_encode(const tob_record_header *header, uint64_t salt, uint64_t offset,
                              uint8_t ret[TOB_RECORD_HEADER_BYTES]) {
    put32(ret, header->length);
    put32(ret + 4, header->payload_crc);
    put32(ret + 8, (uint32_t)((offset - header->group_offset) / TOB_RECORD_ALIGN));
    put32(ret + 12, header_crc(ret, salt, offset));
}

bool tob_record_header_decode(const uint8_t bytes[TOB_RECORD_HEADER_BYTES], uint64_t salt, uint64_t offset,
                              tob_record_header *ret) {
    if (get32(bytes + 12) != header_crc(bytes, salt, offset)) {
        return false;
    }
    uint64_t back = (uint64_t)get32(bytes + 8) * TOB_RECORD_ALIGN;
    tob_record_header header = {.length = get32(bytes), .payload_crc = get32(bytes + 4)};
    if (header.length > TOB_JOURNAL_MAX_RECORD_BYTES || back > offset) {
        return false;
    }
    header.group_offset = offset - back;
    *ret = header;
    return true;
}

bool tob_all_zero(const uint8_t *bytes, size_t n) {
    return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}
