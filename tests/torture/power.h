// power makes a directory what the power failing may leave of it, with what the shim remembers of its syncs (shim.h).
//
// Threads: one at a time. Errors: none; it aborts.
#ifndef TOB_TESTS_TORTURE_POWER_H
#define TOB_TESTS_TORTURE_POWER_H

typedef enum power {
    POWER_STAYS,
    POWER_FAILS,            // names and contents are as they were last synced
    POWER_FAILS_NAMES_STAY, // only the contents are
    POWER_FAILS_NAMES_GO,   // as the first, but what was removed since is gone
} power;

void power_lose(const char *dir, const char *shadow, power how);

#endif
