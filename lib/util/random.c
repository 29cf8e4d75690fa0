#include "util/random.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void tob_random_bytes(void *to, size_t n) {
    uint8_t *p = to;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            abort();
        }
        p += got;
        n -= (size_t)got;
    }
}

uint64_t tob_random_u64(void) {
    uint64_t value = 0;
    while (value == 0) {
        tob_random_bytes(&value, sizeof(value));
    }
    return value;
}

uint64_t tob_random_below(uint64_t below) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % below;
    uint64_t value = 0;
    do {
        tob_random_bytes(&value, sizeof(value));
    } while (value >= limit);
    return value % below;
}
