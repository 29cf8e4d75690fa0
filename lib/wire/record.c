#include "wire/record.h"

#include <protobuf-c/protobuf-c.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "wire/varint.h"

size_t tob_record_prefix(uint64_t received_unix_ms, size_t batch_len, uint8_t to[TOB_RECORD_PREFIX_BYTES]) {
    enum { BATCH_TAG = 2 << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED };
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    record.received_unix_ms = received_unix_ms;
    size_t n = tobogganing__v1__record__pack(&record, to); // at most 11 bytes
    to[n++] = BATCH_TAG;
    return n + tob_varint_put(to + n, batch_len);
}
