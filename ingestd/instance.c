#include "ingestd/instance.h"

#include "ingestd/state_number.h"
#include "util/random.h"

tob_error tob_instance_load(const char *state_dir, uint64_t *ret) {
    uint64_t value = 0;
    tob_error err = tob_state_number_read(state_dir, "instance", &value);
    if (!err && value == 0) {
        value = tob_random_u64();
        err = tob_state_number_write(state_dir, "instance", value);
    }
    if (!err) {
        *ret = value;
    }
    return err;
}
