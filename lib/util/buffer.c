#include "util/buffer.h"

#include <stdlib.h>
#include <string.h>

void tob_buffer_init(tob_buffer *buffer, size_t max_bytes) {
    *buffer = (tob_buffer){.max_bytes = max_bytes};
}

void tob_buffer_fini(tob_buffer *buffer) {
    free(buffer->data);
    *buffer = (tob_buffer){.max_bytes = buffer->max_bytes};
}

void tob_buffer_clear(tob_buffer *buffer) {
    buffer->len = 0;
}

tob_error tob_buffer_reserve(tob_buffer *buffer, size_t n, uint8_t **ret) {
    if (n > buffer->max_bytes - buffer->len) {
        return TOB_TOO_LARGE;
    }
    size_t need = buffer->len + n;
    if (need > buffer->capacity) {
        size_t capacity = buffer->capacity < 128 ? 256 : buffer->capacity * 2;
        if (capacity < need) {
            capacity = need;
        }
        if (capacity > buffer->max_bytes) {
            capacity = buffer->max_bytes;
        }
        uint8_t *data = realloc(buffer->data, capacity);
        if (!data) {
            return TOB_NO_MEMORY;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    *ret = buffer->data + buffer->len;
    return TOB_OK;
}

tob_error tob_buffer_append(tob_buffer *buffer, const void *bytes, size_t n) {
    if (n == 0) {
        return TOB_OK;
    }
    uint8_t *to = NULL;
    tob_error err = tob_buffer_reserve(buffer, n, &to);
    if (err) {
        return err;
    }
    memcpy(to, bytes, n);
    buffer->len += n;
    return TOB_OK;
}
