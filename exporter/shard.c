#include "exporter/shard.h"

#include <string.h>

#include "util/text.h"

#define MAX_DIGITS 4

tob_error tob_shard_parse(const char *text, tob_shard *ret) {
    char index[MAX_DIGITS + 1] = "";
    const char *slash = strchr(text, '/');
    uint64_t i = 0;
    uint64_t n = 0;
    if (!slash || slash - text > MAX_DIGITS) {
        return TOB_INVALID;
    }
    memcpy(index, text, (size_t)(slash - text));
    if (tob_parse_u64(index, TOB_SHARD_MAX_COUNT, &i) || tob_parse_u64(slash + 1, TOB_SHARD_MAX_COUNT, &n) ||
        i >= n) {
        return TOB_INVALID;
    }
    *ret = (tob_shard){.index = (unsigned)i, .count = (unsigned)n};
    return TOB_OK;
}

uint64_t tob_shard_buckets(tob_shard shard) {
    uint64_t mask = 0;
    for (unsigned b = shard.index; b < TOB_BUS_BUCKETS; b += shard.count) {
        mask |= UINT64_C(1) << b;
    }
    return mask;
}

bool tob_shard_has_manager(tob_shard shard) {
    return shard.index == 0;
}
