#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sql/postgresql.h"
#include "util/clock.h"

struct tob_pg_watch {
    const tob_pg_settings *settings;
    const char *channel;
    void (*fn)(void *user, bool away);
    void *user;
    tob_pg_link link; // its wake_fd is readable once the watch shall end
    bool away;
    pthread_t thread;
};

// A server without LISTEN refuses it, and is asked every TOB_SQL_POLL_MS like the others.
static tob_error listen_to(tob_pg_watch *w) {
    char text[128];
    PGresult *result = NULL;
    tob_sql_problem_text unused;
    tob_error err = tob_pg_connect(w->settings, &w->link, &unused);
    if (err) {
        return err;
    }
    snprintf(text, sizeof(text), "LISTEN %s", w->channel);
    err = tob_pg_exec(&w->link, text, &result);
    PQclear(result);
    return err;
}

static void drop_notifications(PGconn *conn) {
    for (PGnotify *n; (n = PQnotifies(conn));) {
        PQfreemem(n);
    }
}

// Waits for notifications, and asks the server whether it is there when none came. Any error: the connection is of no use.
static tob_error wait_for_news(tob_pg_watch *w) {
    PGresult *result = NULL;
    tob_error err = tob_pg_wait(&w->link, POLLIN, tob_clock_monotonic_ms() + TOB_SQL_POLL_MS);
    if (!err) {
        err = PQconsumeInput(w->link.conn) ? TOB_OK : TOB_UNAVAILABLE;
    } else if (err == TOB_DEADLINE) {
        err = tob_pg_exec(&w->link, "", &result);
        PQclear(result);
    }
    if (!err && PQstatus(w->link.conn) != CONNECTION_OK) {
        err = TOB_UNAVAILABLE;
    }
    if (!err) {
        drop_notifications(w->link.conn);
    }
    return err;
}

// Told again with every attempt that fails: another connection may still have worked a moment ago, and its user may have taken
// that for the server's return.
static tob_error wait_to_come_back(tob_pg_watch *w, tob_error err) {
    bool was_away = w->away;
    struct pollfd wake = {.fd = w->link.wake_fd, .events = POLLIN};
    tob_pg_disconnect(&w->link);
    w->away = true;
    w->fn(w->user, true);
    if (was_away && poll(&wake, 1, TOB_SQL_RECONNECT_MS) > 0) { // the first attempt is made at once
        return TOB_CANCELLED;
    }
    return err;
}

static void *watch(void *user) {
    tob_pg_watch *w = user;
    tob_error err = TOB_OK;
    while (err != TOB_CANCELLED) {
        err = w->link.conn ? wait_for_news(w) : listen_to(w);
        if (!err) {
            w->away = false;
            w->fn(w->user, false);
            continue;
        }
        if (err != TOB_CANCELLED) {
            err = wait_to_come_back(w, err);
        }
    }
    tob_pg_disconnect(&w->link);
    return NULL;
}

tob_error tob_pg_watch_start(tob_sql *sql, const char *channel, void (*fn)(void *user, bool away),
                             void *user) {
    tob_pg *pg = (tob_pg *)sql;
    tob_pg_watch *w = calloc(1, sizeof(*w));
    if (!w) {
        return TOB_NO_MEMORY;
    }
    *w = (tob_pg_watch){.settings = &pg->settings, .channel = channel, .fn = fn, .user = user};
    w->link.wake_fd = eventfd(0, EFD_CLOEXEC);
    if (w->link.wake_fd < 0) {
        free(w);
        return TOB_INTERNAL;
    }
    if (pthread_create(&w->thread, NULL, watch, w) != 0) {
        close(w->link.wake_fd);
        free(w);
        return TOB_INTERNAL;
    }
    pg->watch = w;
    return TOB_OK;
}

void tob_pg_watch_stop(tob_sql *sql) {
    tob_pg *pg = (tob_pg *)sql;
    tob_pg_watch *w = pg->watch;
    if (!w) {
        return;
    }
    (void)eventfd_write(w->link.wake_fd, 1);
    pthread_join(w->thread, NULL);
    close(w->link.wake_fd);
    free(w);
    pg->watch = NULL;
}
