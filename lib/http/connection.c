#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"

#define ACCEPTS_PER_TURN 16
// A peer that acknowledges nothing, or keeps its window shut, for so long is gone (tcp(7), TCP_USER_TIMEOUT).
#define USER_TIMEOUT_MS  30000
#define LINGER_MAX_BYTES (8u << 20)

#define TRIM_MIN_BYTES   (64u << 10) // what a connection must hold to be closed for it

static bool has_room(const tob_http_server *server) {
    return atomic_load(&server->connections) < server->options.max_connections;
}

static bool slot_take(tob_http_server *server) {
    if (atomic_fetch_add(&server->connections, 1) < server->options.max_connections) {
        return true;
    }
    atomic_fetch_sub(&server->connections, 1);
    return false;
}

// Wakes the workers that wait for room.
static void slot_release(tob_http_server *server) {
    atomic_fetch_sub(&server->connections, 1);
    for (unsigned i = 0; i < server->worker_count; i++) {
        if (atomic_load(&server->workers[i].paused)) {
            tob_http_worker_wake(&server->workers[i]);
        }
    }
}

static void connection_end(tob_http_connection *connection) {
    tob_http_worker *worker = connection->worker;
    h2o_linklist_unlink(&connection->link);
    worker->connection_count--;
    free(connection);
    slot_release(worker->server);
}

static void linger_end(tob_http_connection *connection) {
    h2o_timeout_unlink(&connection->linger_entry);
    h2o_socket_close(connection->sock);
    connection_end(connection);
}

static void on_linger_timeout(h2o_timeout_entry_t *entry) {
    linger_end(H2O_STRUCT_FROM_MEMBER(tob_http_connection, linger_entry, entry));
}

static void on_linger_read(h2o_socket_t *sock, const char *err) {
    tob_http_connection *connection = sock->data;
    connection->lingered_bytes += sock->input->size;
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (err || connection->lingered_bytes > LINGER_MAX_BYTES) {
        linger_end(connection);
    }
}

static void linger_start(tob_http_connection *connection) {
    tob_http_worker *worker = connection->worker;
    shutdown(connection->linger_fd, SHUT_WR);
    connection->sock = h2o_evloop_socket_create(worker->context.loop, connection->linger_fd, 0);
    connection->sock->data = connection;
    connection->linger_entry.cb = on_linger_timeout;
    h2o_timeout_link(worker->context.loop, &worker->linger_timeout, &connection->linger_entry);
    h2o_socket_read_start(connection->sock, on_linger_read);
}

// h2o has closed the socket.
static void on_close(void *data) {
    tob_http_connection *connection = data;
    connection->sock = NULL;
    if (connection->linger_fd >= 0) {
        linger_start(connection);
    } else {
        connection_end(connection);
    }
}

static void for_each_connection(tob_http_worker *worker, void (*fn)(tob_http_connection *)) {
    for (h2o_linklist_t *link = worker->connections.next, *next; link != &worker->connections; link = next) {
        next = link->next;
        fn(H2O_STRUCT_FROM_MEMBER(tob_http_connection, link, link));
    }
}

static size_t buffered_bytes(const tob_http_connection *connection) {
    const h2o_buffer_t *input = connection->sock ? connection->sock->input : NULL;
    return input && input->bytes ? input->capacity : 0;
}

// h2o's connection owns the socket: an end of input makes it close it in its own way.
static void end_input(tob_http_connection *connection) {
    shutdown(h2o_socket_get_fd(connection->sock), SHUT_RD);
}

static void on_trim(h2o_timeout_entry_t *entry) {
    tob_http_worker *worker = H2O_STRUCT_FROM_MEMBER(tob_http_worker, trim, entry);
    size_t total = 0;
    h2o_linklist_t *link = NULL;
    for (link = worker->connections.next; link != &worker->connections; link = link->next) {
        total += buffered_bytes(H2O_STRUCT_FROM_MEMBER(tob_http_connection, link, link));
    }
    for (link = worker->connections.next; link != &worker->connections; link = link->next) {
        tob_http_connection *connection = H2O_STRUCT_FROM_MEMBER(tob_http_connection, link, link);
        size_t bytes = buffered_bytes(connection);
        if (total > worker->server->options.max_buffered_bytes && !connection->req &&
            bytes >= TRIM_MIN_BYTES) {
            end_input(connection);
            total -= bytes;
        }
    }
    if (worker->connection_count) {
        h2o_timeout_link(worker->context.loop, &worker->context.hundred_ms_timeout, &worker->trim);
    }
}

static void connection_start(tob_http_worker *worker, h2o_socket_t *sock) {
    int fd = h2o_socket_get_fd(sock);
    int on = 1;
    unsigned user_timeout_ms = USER_TIMEOUT_MS;
    tob_http_connection *connection = h2o_mem_alloc(sizeof(*connection));
    *connection = (tob_http_connection){.worker = worker, .sock = sock, .linger_fd = -1};
    h2o_linklist_insert(&worker->connections, &connection->link);
    worker->connection_count++;
    if (!h2o_timeout_is_linked(&worker->trim)) {
        worker->trim.cb = on_trim;
        h2o_timeout_link(worker->context.loop, &worker->context.hundred_ms_timeout, &worker->trim);
    }
    sock->on_close.cb = on_close;
    sock->on_close.data = connection;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    h2o_accept(&worker->accept, sock);
}

// After `paused` is set, a slot that is released wakes us; one released just before is seen here.
static void accept_pause(tob_http_worker *worker) {
    h2o_socket_read_stop(worker->listener);
    atomic_store(&worker->paused, true);
    tob_http_accept_resume(worker);
}

static void on_accept_again(h2o_timeout_entry_t *entry) {
    tob_http_accept_resume(H2O_STRUCT_FROM_MEMBER(tob_http_worker, accept_again, entry));
}

static void on_accept(h2o_socket_t *listener, const char *err) {
    tob_http_worker *worker = listener->data;
    (void)err; // accept says it too
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (!slot_take(worker->server)) {
            accept_pause(worker);
            return;
        }
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        int failure = errno;
        if (sock) {
            connection_start(worker, sock);
            continue;
        }
        slot_release(worker->server);
        if (failure == EMFILE || failure == ENFILE || failure == ENOBUFS || failure == ENOMEM) {
            // The connection stays readable: without a pause the loop would spin on it.
            worker->accept_again.cb = on_accept_again;
            h2o_timeout_link(worker->context.loop, &worker->context.hundred_ms_timeout,
                             &worker->accept_again);
            accept_pause(worker);
        }
        return;
    }
}

void tob_http_accept_start(tob_http_worker *worker, int fd) {
    worker->listener = h2o_evloop_socket_create(worker->context.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    worker->listener->data = worker;
    h2o_socket_read_start(worker->listener, on_accept);
}

void tob_http_accept_stop(tob_http_worker *worker) {
    h2o_timeout_unlink(&worker->accept_again);
    atomic_store(&worker->paused, false);
    h2o_socket_read_stop(worker->listener);
    h2o_socket_close(worker->listener);
    worker->listener = NULL;
}

void tob_http_accept_resume(tob_http_worker *worker) {
    if (worker->listener && atomic_load(&worker->paused) && has_room(worker->server) &&
        !h2o_timeout_is_linked(&worker->accept_again)) {
        atomic_store(&worker->paused, false);
        h2o_socket_read_start(worker->listener, on_accept);
    }
}

tob_http_connection *tob_http_connection_of(h2o_req_t *req) {
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

void tob_http_linger(h2o_req_t *req) {
    tob_http_connection *connection = tob_http_connection_of(req);
    req->http1_is_persistent = 0;
    if (connection->linger_fd < 0) {
        // Without a descriptor left the close is an abrupt one.
        connection->linger_fd = fcntl(h2o_socket_get_fd(connection->sock), F_DUPFD_CLOEXEC, 0);
    }
}

// Input that is there already is a request, which is answered first.
static void close_if_idle(tob_http_connection *connection) {
    if (connection->sock && !connection->req && connection->sock->input->size == 0) {
        end_input(connection);
    }
}

static void close_now(tob_http_connection *connection) {
    if (connection->sock) {
        shutdown(h2o_socket_get_fd(connection->sock), SHUT_RDWR);
    }
}

void tob_http_close_idle(tob_http_worker *worker) {
    for_each_connection(worker, close_if_idle);
}

void tob_http_close_all(tob_http_worker *worker) {
    for_each_connection(worker, close_now);
}
