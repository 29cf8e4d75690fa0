#include "rpc/server.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/supplemental/util/platform.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/nng.h"
#include "rpc/server_state.h"
#include "util/clock.h"
#include "util/cond.h"

enum {
    LINGER_MS = 50, // see tob_rpc_server_stop
    // Who does not read his answers must not keep us from stopping.
    STOP_SEND_TIMEOUT_MS = 2000,
};

tob_error tob_rpc_server_new(const tob_rpc_server_options *options, tob_rpc_server **ret) {
    tob_rpc_server *server = calloc(1, sizeof(*server));
    if (!server) {
        return TOB_NO_MEMORY;
    }
    server->options = *options;
    pthread_mutex_init(&server->lock, NULL);
    tob_cond_init(&server->idle);
    server->calls = calloc(options->contexts, sizeof(*server->calls));
    server->options.url = strdup(options->url);
    for (size_t i = 0; server->calls && i < options->contexts; i++) {
        pthread_mutex_init(&server->calls[i].lock, NULL);
    }
    if (!server->calls || !server->options.url) {
        tob_rpc_server_free(server);
        return TOB_NO_MEMORY;
    }
    *ret = server;
    return TOB_OK;
}

tob_error tob_rpc_server_add(tob_rpc_server *server, const ProtobufCServiceDescriptor *service,
                             const char *name, tob_rpc_handler handler, void *user) {
    const ProtobufCMethodDescriptor *found = protobuf_c_service_descriptor_get_method_by_name(service, name);
    if (!found) {
        return TOB_NOT_FOUND;
    }
    tob_rpc_method *methods = realloc(server->methods, (server->method_count + 1) * sizeof(*methods));
    if (!methods) {
        return TOB_NO_MEMORY;
    }
    server->methods = methods;
    tob_rpc_method *m = &methods[server->method_count++];
    *m = (tob_rpc_method){.input = found->input, .handler = handler, .user = user};
    int n = snprintf(m->path, sizeof(m->path), "/%s/%s", service->name, name);
    assert(n > 0 && (size_t)n < sizeof(m->path));
    (void)n;
    return TOB_OK;
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    tob_rpc_server *server = arg;
    if (event == NNG_PIPE_EV_REM_POST) {
        atomic_fetch_sub(&server->connections, 1);
    } else if (atomic_fetch_add(&server->connections, 1) >= server->options.max_connections) {
        nng_pipe_close(pipe);
    }
}

static tob_error open_calls(tob_rpc_server *server) {
    for (size_t i = 0; i < server->options.contexts; i++) {
        tob_rpc_call *call = &server->calls[i];
        call->server = server;
        int rv = nng_ctx_open(&call->ctx, server->socket);
        if (rv == 0) {
            rv = nng_aio_alloc(&call->aio, tob_rpc_call_on_aio, call);
        }
        if (rv != 0) {
            return tob_error_from_nng(rv);
        }
        server->call_count++;
        tob_error err =
            tob_arena_new_within(server->options.max_arena_bytes, server->options.budget, &call->arena);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

tob_error tob_rpc_server_start(tob_rpc_server *server) {
    if (strncmp(server->options.url, "tcp://", 6) != 0) {
        return TOB_INVALID; // ipc:// in particular: NNG 1.5's listener dies of one connect-and-close
    }
    int rv = nng_rep0_open(&server->socket);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    server->open = true;
    nng_listener listener;
    (void)(nng_socket_set_size(server->socket, NNG_OPT_RECVMAXSZ, server->options.max_message_bytes) == 0 &&
           nng_socket_set_bool(server->socket, NNG_OPT_TCP_NODELAY, true) == 0 &&
           nng_socket_set_bool(server->socket, NNG_OPT_TCP_KEEPALIVE, true) == 0);
    nng_pipe_notify(server->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, server);
    nng_pipe_notify(server->socket, NNG_PIPE_EV_REM_POST, on_pipe, server);
    tob_error err = open_calls(server);
    if (err) {
        return err;
    }
    rv = nng_listen(server->socket, server->options.url, &listener, 0);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    int port = 0;
    if (nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0) {
        server->port = (uint16_t)port;
    }
    server->active = server->call_count;
    for (size_t i = 0; i < server->call_count; i++) {
        tob_rpc_call_receive(&server->calls[i]);
    }
    return TOB_OK;
}

uint16_t tob_rpc_server_port(const tob_rpc_server *server) {
    return server->port;
}

// Cancels what is in the given state.
static void cancel_all(tob_rpc_server *server, tob_call_state state) {
    for (size_t i = 0; i < server->call_count; i++) {
        tob_rpc_call *call = &server->calls[i];
        pthread_mutex_lock(&call->lock);
        if (call->state == state) {
            nng_aio_cancel(call->aio);
        }
        pthread_mutex_unlock(&call->lock);
    }
}

// Waits for all calls to be answered; after STOP_SEND_TIMEOUT_MS whoever does not read his answer is given up.
static void await_retired(tob_rpc_server *server) {
    uint64_t until_ms = tob_clock_monotonic_ms() + STOP_SEND_TIMEOUT_MS;
    pthread_mutex_lock(&server->lock);
    while (server->active > 0) {
        if (!tob_cond_wait_until(&server->idle, &server->lock, until_ms) &&
            tob_clock_monotonic_ms() >= until_ms) {
            pthread_mutex_unlock(&server->lock);
            cancel_all(server, TOB_CALL_SENDING);
            until_ms = tob_clock_monotonic_ms() + STOP_SEND_TIMEOUT_MS;
            pthread_mutex_lock(&server->lock);
        }
    }
    pthread_mutex_unlock(&server->lock);
}

void tob_rpc_server_stop(tob_rpc_server *server) {
    if (!server->open) {
        return;
    }
    atomic_store(&server->stopping, true);
    cancel_all(server, TOB_CALL_RECEIVING);
    await_retired(server);
    for (size_t i = 0; i < server->call_count; i++) {
        nng_aio_wait(server->calls[i].aio);
    }
    // A response counts as sent when its connection has taken it, which is before the kernel has; NNG offers
    // nothing to wait for, and closing drops it.
    nng_msleep(LINGER_MS);
    server->abandoned = !tob_nng_close(server->socket);
    server->open = false;
}

void tob_rpc_server_free(tob_rpc_server *server) {
    if (!server) {
        return;
    }
    if (server->open) {
        server->abandoned = !tob_nng_close(server->socket);
    }
    if (server->abandoned) {
        return;
    }
    for (size_t i = 0; server->calls && i < server->options.contexts; i++) {
        tob_rpc_call *call = &server->calls[i];
        if (call->aio) {
            nng_aio_stop(call->aio);
            nng_aio_free(call->aio);
        }
        tob_arena_free(call->arena);
        tob_inflater_free(call->inflater);
        tob_deflater_free(call->deflater);
        pthread_mutex_destroy(&call->lock);
    }
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->idle);
    free(server->calls);
    free(server->methods);
    free((char *)server->options.url);
    free(server);
}

uint64_t tob_rpc_server_refused(const tob_rpc_server *server) {
    return atomic_load_explicit(&server->refused, memory_order_relaxed);
}
