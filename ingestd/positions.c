#include "ingestd/positions.h"

#include <stddef.h>

Tobogganing__V1__Position tob_position_message(tob_position at) {
    Tobogganing__V1__Position message = TOBOGGANING__V1__POSITION__INIT;
    message.segment = at.segment;
    message.offset = at.offset;
    return message;
}

tob_position tob_position_of(const Tobogganing__V1__Position *message) {
    return message ? (tob_position){message->segment, message->offset} : (tob_position){0, 0};
}

uint64_t tob_positions_apart(tob_position from, tob_position to, uint64_t segment_bytes) {
    if (tob_position_compare(from, to) >= 0) {
        return 0;
    }
    uint64_t segments = to.segment - from.segment;
    if (segments == 0) {
        return to.offset - from.offset;
    }
    uint64_t rest = from.offset < segment_bytes ? segment_bytes - from.offset : 0;
    if (segments - 1 > (UINT64_MAX >> 1) / segment_bytes) {
        return UINT64_MAX;
    }
    return rest + (segments - 1) * segment_bytes + to.offset;
}
