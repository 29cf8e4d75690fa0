#include "exporter/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char two_digits[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

char *tob_write_u64(char *to, uint64_t n) {
    char digits[20];
    size_t at = sizeof(digits);
    while (n >= 100) {
        at -= 2;
        memcpy(digits + at, two_digits + n % 100 * 2, 2);
        n /= 100;
    }
    if (n >= 10) {
        at -= 2;
        memcpy(digits + at, two_digits + n * 2, 2);
    } else {
        digits[--at] = (char)('0' + n);
    }
    memcpy(to, digits + at, sizeof(digits) - at);
    return to + (sizeof(digits) - at);
}

char *tob_write_thousandths(char *to, uint64_t n) {
    to = tob_write_u64(to, n / 1000);
    unsigned rest = (unsigned)(n % 1000);
    if (rest == 0) {
        return to;
    }
    *to++ = '.';
    *to++ = (char)('0' + rest / 100);
    if (rest % 100) {
        *to++ = (char)('0' + rest / 10 % 10);
    }
    if (rest % 10) {
        *to++ = (char)('0' + rest % 10);
    }
    return to;
}

static char *write_text(char *to, const char *text) {
    size_t n = strlen(text);
    memcpy(to, text, n);
    return to + n;
}

// The fewest significant digits that read back the same: 15 always fit a double, 17 always suffice.
static char *write_shortest(char *to, double d) {
    char text[TOB_NUMBER_MAX_BYTES];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, d);
        if (strtod(text, NULL) == d) {
            break;
        }
    }
    return write_text(to, text);
}

char *tob_write_double(char *to, double d) {
    if (!isfinite(d)) {
        return write_text(to, isnan(d) ? "NaN" : d < 0 ? "-Inf" : "+Inf");
    }
    if (d < 0) {
        *to++ = '-';
        d = -d;
    }
    if (d < 0x1p64 && d == floor(d)) {
        return tob_write_u64(to, (uint64_t)d);
    }
    // Below 2^53 thousandths, n / 1000.0 is rounded as strtod rounds the decimal: when it gives d, so does
    // strtod.
    if (d < 0x1p43) {
        double n = nearbyint(d * 1000);
        if (n / 1000 == d) {
            return tob_write_thousandths(to, (uint64_t)n);
        }
    }
    return write_shortest(to, d);
}
