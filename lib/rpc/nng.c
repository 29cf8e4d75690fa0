#include "rpc/nng.h"

#include <pthread.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/cond.h"

tob_error tob_error_from_nng(int nng_error) {
    switch (nng_error) {
    case 0: return TOB_OK;
    case NNG_ENOMEM: return TOB_NO_MEMORY;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP: return TOB_INVALID;
    case NNG_EADDRINUSE:
    case NNG_ECONNREFUSED:
    case NNG_ECONNRESET:
    case NNG_ECONNABORTED:
    case NNG_EUNREACHABLE: return TOB_UNAVAILABLE;
    case NNG_ETIMEDOUT: return TOB_DEADLINE;
    case NNG_ECLOSED:
    case NNG_ECANCELED: return TOB_CANCELLED;
    case NNG_EPERM: return TOB_PERMISSION_DENIED;
    case NNG_EMSGSIZE: return TOB_TOO_LARGE;
    case NNG_EPROTO: return TOB_MALFORMED;
    default: return TOB_INTERNAL;
    }
}

// Shared by the closing thread and whoever waits for it; the last one frees it.
typedef struct closing {
    nng_socket socket;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;
    bool abandoned;
} closing;

static void closing_free(closing *c) {
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
}

static void *close_socket(void *arg) {
    closing *c = arg;
    nng_close(c->socket);
    pthread_mutex_lock(&c->lock);
    c->closed = true;
    bool ours = c->abandoned;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (ours) {
        closing_free(c);
    }
    return NULL;
}

static closing *closing_start(nng_socket socket) {
    pthread_t thread;
    closing *c = calloc(1, sizeof(*c));
    if (!c) {
        return NULL;
    }
    c->socket = socket;
    pthread_mutex_init(&c->lock, NULL);
    tob_cond_init(&c->changed);
    if (pthread_create(&thread, NULL, close_socket, c) != 0) {
        closing_free(c);
        return NULL;
    }
    pthread_detach(thread);
    return c;
}

bool tob_nng_close(nng_socket socket) {
    closing *c = closing_start(socket);
    if (!c) {
        return false; // left open rather than closed at the risk of hanging
    }
    uint64_t until_ms = tob_clock_monotonic_ms() + TOB_NNG_CLOSE_MS;
    pthread_mutex_lock(&c->lock);
    while (!c->closed && tob_cond_wait_until(&c->changed, &c->lock, until_ms)) {
    }
    bool closed = c->closed;
    c->abandoned = !closed;
    pthread_mutex_unlock(&c->lock);
    if (closed) {
        closing_free(c);
    }
    return closed;
}
