// Journal records (journal.proto) put together without copying the batch.
//
// Threads: any.
#ifndef TOB_WIRE_RECORD_H
#define TOB_WIRE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define TOB_RECORD_PREFIX_BYTES 32

// tob_record_prefix writes what stands before the bytes of a batch in a serialized Record, and returns its length.
// A Record is this prefix followed by the serialized Batch.
size_t tob_record_prefix(uint64_t received_unix_ms, size_t batch_len, uint8_t to[TOB_RECORD_PREFIX_BYTES]);

#endif
