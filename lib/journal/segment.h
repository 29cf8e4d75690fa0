// The bytes of a segment file: its header and the headers of its records. Inside lib/journal only.
//
// Threads: any. Errors: none but what is said.
#ifndef TOB_JOURNAL_SEGMENT_H
#define TOB_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_SEGMENT_VERSION       1
#define TOB_SEGMENT_HEADER_BYTES  40
#define TOB_RECORD_HEADER_BYTES   16
#define TOB_RECORD_ALIGN          8

#define TOB_SEGMENT_NAME_BYTES    32
#define TOB_CHECKPOINT_NAME_BYTES 56

typedef struct tob_segment_header {
    uint64_t segment; // its number
    uint64_t salt;    // random; goes into the record headers' checks, so that no payload can look like one
    uint64_t previous_end; // where the segment before it ends; 0 for the first
} tob_segment_header;

typedef struct tob_record_header {
    uint32_t length;       // of the payload, bytes
    uint32_t payload_crc;  // CRC-32C
    uint64_t group_offset; // where the group of records begins that one sync wrote together
} tob_record_header;

// tob_segment_name: "journal-%016x.seg".
void tob_segment_name(uint64_t segment, char ret[TOB_SEGMENT_NAME_BYTES]);

// tob_segment_number reads such a name; false for any other.
bool tob_segment_number(const char *name, uint64_t *ret);

void tob_segment_header_encode(const tob_segment_header *header, uint8_t ret[TOB_SEGMENT_HEADER_BYTES]);

// Errors: TOB_DAMAGED; TOB_PRECONDITION for a version that we don't know.
TOB_MUST_USE tob_error tob_segment_header_decode(const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES],
                                                 tob_segment_header *ret);

// The header of a checkpoint: the same with another magic and with its place.
typedef struct tob_checkpoint_header {
    uint64_t segment;
    uint64_t salt;
    uint64_t offset;
} tob_checkpoint_header;

void tob_checkpoint_header_encode(const tob_checkpoint_header *header, uint8_t ret[TOB_SEGMENT_HEADER_BYTES]);

// Errors: as of tob_segment_header_decode.
TOB_MUST_USE tob_error tob_checkpoint_header_decode(const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES],
                                                    tob_checkpoint_header *ret);

// "checkpoint-%016x-%016x.ckpt".
void tob_checkpoint_name(uint64_t segment, uint64_t offset, char ret[TOB_CHECKPOINT_NAME_BYTES]);

// tob_checkpoint_place reads such a name; false for any other.
bool tob_checkpoint_place(const char *name, uint64_t *ret_segment, uint64_t *ret_offset);

// The bytes of a record with its header and padding.
uint64_t tob_record_bytes(uint64_t length);

// offset: where the record begins; salt: its segment's.
void tob_record_header_encode(const tob_record_header *header, uint64_t salt, uint64_t offset,
                              uint8_t ret[TOB_RECORD_HEADER_BYTES]);

// False when it does not pass its check.
bool tob_record_header_decode(const uint8_t bytes[TOB_RECORD_HEADER_BYTES], uint64_t salt, uint64_t offset,
                              tob_record_header *ret);

bool tob_all_zero(const uint8_t *bytes, size_t n);

#endif
