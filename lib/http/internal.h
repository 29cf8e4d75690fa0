// What the files of lib/http share. Nobody else includes it.
#ifndef TOB_HTTP_INTERNAL_H
#define TOB_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "http/router.h"
#include "http/server.h"

struct tob_http_worker {
    tob_http_server *server;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    void *state;

    // Of the worker's thread only.
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener; // NULL once stopping
    h2o_timeout_t linger_timeout;
    h2o_timeout_entry_t accept_again; // after the process ran out of descriptors
    h2o_timeout_entry_t trim;         // while there are connections
    h2o_linklist_t connections;       // the oldest first
    size_t connection_count;
    tob_http_task stop_task;
    uint64_t stop_deadline_ms; // set before stop_task is posted
    uint64_t stop_at_ms;       // monotonic; 0: not stopping
    bool forced;               // requests that were left at stop_at_ms have been ended

    atomic_bool paused; // the listener is not read: the cap, or no descriptors

    pthread_mutex_t mutex; // guards what follows
    h2o_multithread_receiver_t receiver;
    h2o_multithread_message_t message; // sent when the first task is added
    tob_http_task *tasks;
    tob_http_task **tasks_end;
    bool open; // tasks are taken
};

struct tob_http_server {
    tob_http_server_options options;
    char *listen;
    tob_http_router router;
    h2o_globalconf_t config;
    int listen_fds[TOB_HTTP_MAX_WORKERS];
    uint16_t port;
    atomic_size_t connections; // over all workers
    tob_http_worker *workers;
    unsigned worker_count;
    bool started;

    pthread_mutex_t mutex; // with `changed`: how many workers are ready
    pthread_cond_t changed;
    unsigned ready;
};

// One accepted connection, from accept to the end of its lingering close.
typedef struct tob_http_connection {
    tob_http_worker *worker;
    h2o_linklist_t link;
    h2o_socket_t *sock;
    h2o_req_t *req; // between a request's dispatch and its end, else NULL
    // Set when the connection is to be closed with input unread: a second descriptor of it, else -1.
    int linger_fd;
    size_t lingered_bytes;
    h2o_timeout_entry_t linger_entry;
} tob_http_connection;

// connection.c. All on the worker's thread.
void tob_http_accept_start(tob_http_worker *worker, int fd);
void tob_http_accept_stop(tob_http_worker *worker);
void tob_http_accept_resume(tob_http_worker *worker); // if it was paused and there is room again
tob_http_connection *tob_http_connection_of(h2o_req_t *req);
// Close the connection of this request after the response, but read what the peer still sends for a while:
// closing with unread input resets the connection, and the peer would lose the response.
void tob_http_linger(h2o_req_t *req);
void tob_http_close_idle(tob_http_worker *worker);
void tob_http_close_all(tob_http_worker *worker);

// request.c
void tob_http_register(tob_http_server *server, h2o_hostconf_t *host);
void tob_http_end_requests(tob_http_worker *worker);

// worker.c
TOB_MUST_USE tob_error tob_http_worker_init(tob_http_worker *worker, tob_http_server *server, unsigned index);
TOB_MUST_USE tob_error tob_http_worker_start(tob_http_worker *worker);
void tob_http_worker_stop(tob_http_worker *worker, uint64_t stop_at_ms); // returns at once
void tob_http_worker_join(tob_http_worker *worker);
void tob_http_worker_wake(tob_http_worker *worker);
void tob_http_worker_fini(tob_http_worker *worker);

#endif
