#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/internal.h"
#include "http/listen.h"
#include "util/clock.h"

static unsigned cpu_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 && count < TOB_HTTP_MAX_WORKERS ? (unsigned)count : TOB_HTTP_MAX_WORKERS;
}

static void set_defaults(tob_http_server_options *options) {
    options->workers = options->workers ? options->workers : cpu_count();
    options->max_connections =
        options->max_connections ? options->max_connections : TOB_HTTP_DEFAULT_CONNECTIONS;
    options->max_body_bytes = options->max_body_bytes ? options->max_body_bytes : TOB_HTTP_DEFAULT_BODY_BYTES;
    options->max_buffered_bytes =
        options->max_buffered_bytes ? options->max_buffered_bytes : TOB_HTTP_DEFAULT_BUFFERED_BYTES;
    options->idle_timeout_ms =
        options->idle_timeout_ms ? options->idle_timeout_ms : TOB_HTTP_DEFAULT_IDLE_TIMEOUT_MS;
}

static void configure(tob_http_server *server) {
    h2o_config_init(&server->config);
    server->config.server_name = h2o_iovec_init(H2O_STRLIT(""));
    server->config.http1.upgrade_to_http2 = 0;
    server->config.http1.req_timeout = server->options.idle_timeout_ms;
    // h2o's limits on chunked and plain bodies differ by one: the exact one is checked when a request is
    // dispatched.
    server->config.max_request_entity_size = server->options.max_body_bytes + 1;
    h2o_hostconf_t *host =
        h2o_config_register_host(&server->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    tob_http_register(server, host);
}

static tob_error make_workers(tob_http_server *server) {
    server->workers = calloc(server->options.workers, sizeof(*server->workers));
    if (!server->workers) {
        return TOB_NO_MEMORY;
    }
    for (unsigned i = 0; i < server->options.workers; i++) {
        tob_error error = tob_http_worker_init(&server->workers[i], server, i);
        if (error) {
            return error;
        }
        server->worker_count++;
    }
    return TOB_OK;
}

tob_error tob_http_server_new(const tob_http_server_options *options, tob_http_server **ret) {
    tob_error error = TOB_NO_MEMORY;
    if (options->workers > TOB_HTTP_MAX_WORKERS) {
        return TOB_INVALID;
    }
    tob_http_server *server = calloc(1, sizeof(*server));
    if (!server) {
        return TOB_NO_MEMORY;
    }
    server->options = *options;
    set_defaults(&server->options);
    configure(server);
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->changed, NULL);
    server->listen = strdup(options->listen);
    if (!server->listen) {
        goto out;
    }
    error = make_workers(server);
    if (error) {
        goto out;
    }
    *ret = server;
    return TOB_OK;
out:
    tob_http_server_free(server);
    return error;
}

tob_error tob_http_server_route(tob_http_server *server, const char *method, const char *pattern,
                                tob_http_handler handler, void *user) {
    tob_http_route route = {.method = method, .pattern = pattern, .handler = handler, .user = user};
    return tob_http_router_add(&server->router, &route);
}

tob_error tob_http_server_route_without_body(tob_http_server *server, const char *method, const char *pattern,
                                             tob_http_handler handler, void *user) {
    tob_http_route route = {
        .method = method, .pattern = pattern, .handler = handler, .user = user, .body_optional = true};
    return tob_http_router_add(&server->router, &route);
}

static void wait_ready(tob_http_server *server, unsigned count) {
    pthread_mutex_lock(&server->mutex);
    while (server->ready < count) {
        pthread_cond_wait(&server->changed, &server->mutex);
    }
    pthread_mutex_unlock(&server->mutex);
}

// Every loop has a descriptor of its own for the one listening socket.
static tob_error open_listeners(tob_http_server *server) {
    tob_error error = tob_listen(server->listen, &server->listen_fds[0], &server->port);
    if (error) {
        return error;
    }
    unsigned opened = 1;
    while (opened < server->worker_count) {
        int fd = fcntl(server->listen_fds[0], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            error = tob_error_from_errno(errno);
            break;
        }
        server->listen_fds[opened++] = fd;
    }
    while (error && opened) {
        close(server->listen_fds[--opened]);
    }
    return error;
}

tob_error tob_http_server_start(tob_http_server *server) {
    unsigned started = 0;
    tob_error error = open_listeners(server);
    if (error) {
        return error;
    }
    signal(SIGPIPE, SIG_IGN);
    while (!error && started < server->worker_count) {
        error = tob_http_worker_start(&server->workers[started]);
        started += !error;
    }
    wait_ready(server, started);
    server->started = true;
    if (error) {
        for (unsigned i = started; i < server->worker_count; i++) {
            close(server->listen_fds[i]);
        }
        tob_http_server_stop(server, 0);
    }
    return error;
}

uint16_t tob_http_server_port(const tob_http_server *server) {
    return server->port;
}

unsigned tob_http_server_workers(const tob_http_server *server) {
    return server->worker_count;
}

void tob_http_server_stop(tob_http_server *server, uint64_t grace_ms) {
    if (!server->started) {
        return;
    }
    server->started = false;
    uint64_t stop_at_ms = tob_clock_monotonic_ms() + grace_ms;
    for (unsigned i = 0; i < server->worker_count; i++) {
        tob_http_worker_stop(&server->workers[i], stop_at_ms);
    }
    for (unsigned i = 0; i < server->worker_count; i++) {
        tob_http_worker_join(&server->workers[i]);
    }
}

void tob_http_server_free(tob_http_server *server) {
    if (!server) {
        return;
    }
    for (unsigned i = 0; i < server->worker_count; i++) {
        tob_http_worker_fini(&server->workers[i]);
    }
    free(server->workers);
    h2o_config_dispose(&server->config);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    free(server->listen);
    free(server);
}
