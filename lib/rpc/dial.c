#include "rpc/dial.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/nng.h"
#include "util/clock.h"
#include "util/cond.h"

struct tob_dial {
    nng_socket socket;
    nng_dialer dialer;
    const atomic_bool *connected;
    char *url;
    tob_dial *next;
};

// The dials of this process, and the thread that watches the clocks for them. Taken around all starts and ends, so that
// there is one thread at a time: `life` before `lock`.
static struct {
    pthread_mutex_t life;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t wake;
    bool ready;
    bool quit;
    pthread_t thread;
    tob_dial *first;
} watch = {.life = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER};

// How far the wall clock is ahead of the monotonic one.
static int64_t wall_lead_ms(void) {
    return (int64_t)tob_clock_unix_ms() - (int64_t)tob_clock_monotonic_ms();
}

static void dial_anew(tob_dial *dial) {
    if (dial->connected && atomic_load(dial->connected)) {
        return;
    }
    nng_dialer before = dial->dialer;
    if (nng_dial(dial->socket, dial->url, &dial->dialer, NNG_FLAG_NONBLOCK) == 0) {
        nng_dialer_close(before);
    } else {
        dial->dialer = before; // goes on when the clock has caught up
    }
}

static void *watch_clocks(void *arg) {
    (void)arg;
    int64_t lead_ms = wall_lead_ms();
    pthread_mutex_lock(&watch.lock);
    while (!watch.quit) {
        tob_cond_wait_until(&watch.wake, &watch.lock, tob_clock_monotonic_ms() + TOB_DIAL_WATCH_MS);
        int64_t now_ms = wall_lead_ms();
        for (tob_dial *dial = watch.first; dial && now_ms < lead_ms - TOB_DIAL_STEP_MS; dial = dial->next) {
            dial_anew(dial);
        }
        lead_ms = now_ms;
    }
    pthread_mutex_unlock(&watch.lock);
    return NULL;
}

// `life` is held; there is no thread.
static tob_error start_watching(void) {
    if (!watch.ready) {
        tob_cond_init(&watch.wake);
        watch.ready = true;
    }
    watch.quit = false;
    return pthread_create(&watch.thread, NULL, watch_clocks, NULL) == 0 ? TOB_OK : TOB_NO_MEMORY;
}

static tob_error enter(tob_dial *dial) {
    pthread_mutex_lock(&watch.life);
    tob_error err = watch.first ? TOB_OK : start_watching();
    if (!err) {
        pthread_mutex_lock(&watch.lock);
        dial->next = watch.first;
        watch.first = dial;
        pthread_mutex_unlock(&watch.lock);
    }
    pthread_mutex_unlock(&watch.life);
    return err;
}

static void leave(tob_dial *dial) {
    pthread_mutex_lock(&watch.life);
    pthread_mutex_lock(&watch.lock);
    tob_dial **link = &watch.first;
    while (*link != dial) {
        link = &(*link)->next;
    }
    *link = dial->next;
    bool last = !watch.first;
    watch.quit = last;
    if (last) {
        pthread_cond_signal(&watch.wake);
    }
    pthread_mutex_unlock(&watch.lock);
    if (last) {
        pthread_join(watch.thread, NULL);
    }
    pthread_mutex_unlock(&watch.life);
}

static void dial_free(tob_dial *dial) {
    free(dial->url);
    free(dial);
}

tob_error tob_dial_start(nng_socket socket, const char *url, const atomic_bool *connected, tob_dial **ret) {
    tob_dial *dial = calloc(1, sizeof(*dial));
    if (!dial) {
        return TOB_NO_MEMORY;
    }
    dial->socket = socket;
    dial->connected = connected;
    dial->url = strdup(url);
    tob_error err = dial->url ? tob_error_from_nng(nng_dial(socket, url, &dial->dialer, NNG_FLAG_NONBLOCK))
                              : TOB_NO_MEMORY;
    if (err) {
        dial_free(dial);
        return err;
    }
    err = enter(dial);
    if (err) {
        nng_dialer_close(dial->dialer);
        dial_free(dial);
        return err;
    }
    *ret = dial;
    return TOB_OK;
}

void tob_dial_forget(tob_dial *dial) {
    if (!dial) {
        return;
    }
    leave(dial);
    dial_free(dial);
}

void tob_dial_close(tob_dial *dial) {
    if (!dial) {
        return;
    }
    leave(dial);
    nng_dialer_close(dial->dialer);
    dial_free(dial);
}
