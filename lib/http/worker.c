#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "http/internal.h"
#include "util/clock.h"

#define LINGER_MS         2000
#define FORCED_END_MS     1000 // for the answers to requests that the end of a stop cut short
#define STOPPING_TURN_MS  50
#define H2O_CACHED_CHUNKS 16

void tob_http_worker_wake(tob_http_worker *worker) {
    pthread_mutex_lock(&worker->mutex);
    if (worker->open) {
        h2o_multithread_send_message(&worker->receiver, NULL);
    }
    pthread_mutex_unlock(&worker->mutex);
}

tob_error tob_http_post_task(tob_http_worker *worker, tob_http_task *task) {
    tob_error error = TOB_CANCELLED;
    task->next = NULL;
    pthread_mutex_lock(&worker->mutex);
    if (worker->open) {
        bool first = !worker->tasks;
        *worker->tasks_end = task;
        worker->tasks_end = &task->next;
        if (first) {
            h2o_multithread_send_message(&worker->receiver, &worker->message);
        }
        error = TOB_OK;
    }
    pthread_mutex_unlock(&worker->mutex);
    return error;
}

tob_error tob_http_post(tob_http_worker *worker, void (*fn)(void *arg), void *arg) {
    tob_http_task *task = malloc(sizeof(*task));
    if (!task) {
        return TOB_NO_MEMORY;
    }
    *task = (tob_http_task){.fn = fn, .arg = arg, .owned = true};
    tob_error error = tob_http_post_task(worker, task);
    if (error) {
        free(task);
    }
    return error;
}

static tob_http_task *take_tasks(tob_http_worker *worker, bool keep_open) {
    pthread_mutex_lock(&worker->mutex);
    tob_http_task *tasks = worker->tasks;
    worker->tasks = NULL;
    worker->tasks_end = &worker->tasks;
    worker->open = keep_open;
    pthread_mutex_unlock(&worker->mutex);
    return tasks;
}

static void run_tasks(tob_http_task *tasks) {
    while (tasks) {
        tob_http_task task = *tasks;
        if (task.owned) {
            free(tasks);
        }
        tasks = task.next;
        task.fn(task.arg);
    }
}

// Tasks run inside the loop's turn: what they write is completed before the loop waits again. The message is free
// to be sent again before the tasks are taken.
static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages) {
    tob_http_worker *worker = H2O_STRUCT_FROM_MEMBER(tob_http_worker, receiver, receiver);
    while (!h2o_linklist_is_empty(messages)) {
        h2o_linklist_unlink(messages->next);
    }
    run_tasks(take_tasks(worker, true));
}

static void begin_stop(void *arg) {
    tob_http_worker *worker = arg;
    worker->stop_at_ms = worker->stop_deadline_ms;
    tob_http_accept_stop(worker);
    // Connection: close from now on. h2o_context_request_shutdown would also start a timer for HTTP/2.
    worker->context.shutdown_requested = 1;
}

void tob_http_worker_stop(tob_http_worker *worker, uint64_t stop_at_ms) {
    worker->stop_deadline_ms = stop_at_ms;
    worker->stop_task = (tob_http_task){.fn = begin_stop, .arg = worker};
    (void)!tob_http_post_task(worker, &worker->stop_task); // fails when it has stopped already
}

static bool finished(tob_http_worker *worker) {
    if (!worker->stop_at_ms) {
        return false;
    }
    uint64_t now = tob_clock_monotonic_ms();
    tob_http_close_idle(worker); // also those whose last answer still said keep-alive
    if (now >= worker->stop_at_ms && !worker->forced) {
        worker->forced = true;
        tob_http_end_requests(worker);
    } else if (now >= worker->stop_at_ms + FORCED_END_MS / 2) {
        tob_http_close_all(worker); // also those that don't take their answer
    }
    return !worker->connection_count || now >= worker->stop_at_ms + FORCED_END_MS;
}

static void set_up(tob_http_worker *worker) {
    h2o_context_init(&worker->context, h2o_evloop_create(), &worker->server->config);
    h2o_timeout_init(worker->context.loop, &worker->linger_timeout, LINGER_MS);
    h2o_linklist_init_anchor(&worker->connections);
    worker->accept = (h2o_accept_ctx_t){.ctx = &worker->context, .hosts = worker->server->config.hosts};
    pthread_mutex_lock(&worker->mutex);
    h2o_multithread_register_receiver(worker->context.queue, &worker->receiver, on_messages);
    worker->open = true;
    pthread_mutex_unlock(&worker->mutex);
}

// h2o keeps freed chunks in lists of the thread and never frees those: 16 input buffers and 16 pool chunks.
static void free_thread_caches(void) {
    h2o_mem_recycle_t *buffers = &h2o_socket_buffer_prototype.allocator;
    while (buffers->cnt) {
        free(h2o_mem_alloc_recycle(buffers, 1));
    }
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    for (int i = 0; i < (H2O_CACHED_CHUNKS + 1) * 4; i++) {
        h2o_mem_alloc_pool(&pool, 1000); // four to a chunk: takes every cached one
    }
    for (void *chunk = pool.chunks, *next; chunk; chunk = next) {
        next = *(void **)chunk; // its first member
        free(chunk);
    }
}

static void tear_down(tob_http_worker *worker) {
    tob_http_server *server = worker->server;
    h2o_evloop_t *loop = worker->context.loop;
    h2o_multithread_queue_t *queue = worker->context.queue;
    run_tasks(take_tasks(worker, false));
    if (h2o_linklist_is_linked(&worker->message.link)) {
        h2o_linklist_unlink(&worker->message.link);
    }
    if (server->options.on_worker_stop) {
        server->options.on_worker_stop(server->options.user, worker, worker->state);
    }
    h2o_multithread_unregister_receiver(queue, &worker->receiver);
    if (worker->connection_count) {
        return; // connections that would not end still point to the loop: it goes with the process
    }
    h2o_timeout_unlink(&worker->trim);
    h2o_timeout_dispose(loop, &worker->linger_timeout);
    h2o_context_dispose(&worker->context);
    free(queue); // h2o 2.2 destroys it without freeing it
    h2o_evloop_destroy(loop);
    free_thread_caches();
}

static void tell_ready(tob_http_server *server) {
    pthread_mutex_lock(&server->mutex);
    server->ready++;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

static void *run(void *arg) {
    tob_http_worker *worker = arg;
    tob_http_server *server = worker->server;
    set_up(worker);
    if (server->options.on_worker_start) {
        worker->state = server->options.on_worker_start(server->options.user, worker);
    }
    tob_http_accept_start(worker, server->listen_fds[worker->index]);
    tell_ready(server);
    while (!finished(worker)) {
        h2o_evloop_run(worker->context.loop, worker->stop_at_ms ? STOPPING_TURN_MS : INT32_MAX);
        tob_http_accept_resume(worker);
    }
    tear_down(worker);
    return NULL;
}

tob_error tob_http_worker_init(tob_http_worker *worker, tob_http_server *server, unsigned index) {
    *worker = (tob_http_worker){.server = server, .index = index};
    worker->tasks_end = &worker->tasks;
    return pthread_mutex_init(&worker->mutex, NULL) ? TOB_NO_MEMORY : TOB_OK;
}

tob_error tob_http_worker_start(tob_http_worker *worker) {
    if (pthread_create(&worker->thread, NULL, run, worker) != 0) {
        return TOB_NO_MEMORY;
    }
    worker->has_thread = true;
    return TOB_OK;
}

void tob_http_worker_join(tob_http_worker *worker) {
    if (worker->has_thread) {
        pthread_join(worker->thread, NULL);
        worker->has_thread = false;
    }
}

void tob_http_worker_fini(tob_http_worker *worker) {
    pthread_mutex_destroy(&worker->mutex);
}

h2o_context_t *tob_http_worker_context(tob_http_worker *worker) {
    return &worker->context;
}

void *tob_http_worker_state(tob_http_worker *worker) {
    return worker->state;
}

unsigned tob_http_worker_index(const tob_http_worker *worker) {
    return worker->index;
}
