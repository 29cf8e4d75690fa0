// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "journal/crc32c.h"

typedef uint32_t (*crc_fn)(uint32_t crc, const void *bytes, size_t n);

// RFC 3720, appendix B.4; the check value of "123456789" is the catalogue's.
static void check_vectors(crc_fn crc) {
    uint8_t bytes[48];
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc(0, bytes, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(crc(0, bytes, 32), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc(0, bytes, 32), 0x113fdb5c);
    static const uint8_t iscsi_read[48] = {0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
                                           0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                           0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
    assert_int_equal(crc(0, iscsi_read, 48), 0xd9963a56);
    assert_int_equal(crc(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc(0, "", 0), 0);
}

static void the_vectors_of_rfc_3720_hold(void **state) {
    (void)state;
    check_vectors(tob_crc32c);
}

static void they_hold_without_special_instructions(void **state) {
    (void)state;
    check_vectors(tob_crc32c_portable);
}

static void both_agree_at_every_length_alignment_and_split(void **state) {
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 131 + 17);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t n = 0; n < 280; n++) {
            uint32_t whole = tob_crc32c_portable(0, bytes + from, n);
            assert_int_equal(tob_crc32c(0, bytes + from, n), whole);
            size_t split = n / 3;
            uint32_t first = tob_crc32c(0, bytes + from, split);
            assert_int_equal(tob_crc32c(first, bytes + from + split, n - split), whole);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_rfc_3720_hold),
        cmocka_unit_test(they_hold_without_special_instructions),
        cmocka_unit_test(both_agree_at_every_length_alignment_and_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
