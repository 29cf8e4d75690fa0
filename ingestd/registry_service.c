#include "ingestd/registry_service.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tobogganing/v1/certificates.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/signing_keys.pb-c.h"

#include "ingestd/client_erase.h"
#include "ingestd/imports.h"
#include "ingestd/registry_door.h"
#include "ingestd/registry_methods.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"

// Who is no admin gets half of the queue at most, so that he can't keep admins out.
#define OTHERS_QUEUE_MAX (TOB_REGISTRY_QUEUE_MAX / 2)

#define MAX_METHODS      64

// What a handler gets as its `user`.
typedef struct entrance {
    tob_registry_service *service;
    const tob_registry_method *method;
} entrance;

typedef struct job {
    const tob_registry_method *method;
    tob_registry_call call;
    const ProtobufCMessage *request;
} job;

struct tob_registry_service {
    tob_registry_service_options options;
    tob_registry_door door;
    tob_imports *imports; // the worker's, as `erased`
    tob_erased erased;
    entrance entrances[MAX_METHODS];
    size_t entrance_count;
    pthread_t thread;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t wake;
    job queue[TOB_REGISTRY_QUEUE_MAX]; // a ring
    size_t first;
    size_t count;
    bool others_changed; // others may have changed the registry
    bool stopping;
    bool running; // the thread is to be joined
};

// ---- the way in, on NNG's threads

// TOB_OK: it waits for its turn.
static tob_error enqueue(tob_registry_service *service, const job *j) {
    bool other = j->method->access == TOB_ACCESS_ALL || j->call.client_id || j->call.headend_id;
    size_t max = other ? (size_t)OTHERS_QUEUE_MAX : (size_t)TOB_REGISTRY_QUEUE_MAX;
    tob_error err = TOB_OK;
    pthread_mutex_lock(&service->lock);
    if (service->stopping) {
        err = TOB_UNAVAILABLE;
    } else if (service->count >= max) {
        err = TOB_BUSY;
    } else {
        service->queue[(service->first + service->count++) % TOB_REGISTRY_QUEUE_MAX] = *j;
        pthread_cond_signal(&service->wake);
    }
    pthread_mutex_unlock(&service->lock);
    return err;
}

static void on_call(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    const entrance *at = user;
    tob_registry_service *service = at->service;
    job j = {.method = at->method,
             .call = {.service = &service->options, .call = call, .arena = tob_rpc_call_arena(call)},
             .request = request};
    if (!tob_registry_door_open(&service->door, at->method->access, request, &j.call)) {
        return;
    }
    // Nobody waits for a database that is known to be away. What needs no credential may need no database either.
    if (at->method->access != TOB_ACCESS_ALL && tob_registry_sync_away(service->options.sync)) {
        tob_rpc_fail(call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "the registry's database is away");
        return;
    }
    tob_error err = enqueue(service, &j);
    if (err) {
        tob_rpc_fail(call, err, TOB_REGISTRY_RETRY_MS,
                     err == TOB_BUSY ? "too many registry calls are waiting" : "the server is stopping");
    }
}

// ---- the worker

static void carry_out(tob_registry_service *service, job *j) {
    j->call.imports = service->imports;
    j->call.erased = &service->erased;
    do {
        if (tob_clock_monotonic_ms() >= tob_rpc_call_deadline_ms(j->call.call)) {
            tob_rpc_fail(j->call.call, TOB_DEADLINE, 0,
                         "the call waited longer than its caller; nothing was changed");
            return;
        }
        j->call.again = false;
        j->method->carry_out(&j->call, j->request);
        j->call.attempts++;
    } while (j->call.again);
}

// What the worker knows between two turns; its own.
typedef struct turn {
    bool behind;         // the last sync failed
    uint64_t sync_at_ms; // when to try again
    bool imports;        // some wait for more chunks
} turn;

// A database that is away the sync logs itself; what else can go wrong is logged here, once.
static void sync_now(tob_registry_service *service, turn *t) {
    tob_error err = tob_registry_sync_run(service->options.sync);
    if (err && err != TOB_UNAVAILABLE && !t->behind) {
        tob_err("registry_sync_failed", TOB_ERR(err),
                TOB_STR("problem", tob_registry_last_problem(service->options.registry)));
    }
    t->behind = err != TOB_OK;
    t->sync_at_ms = tob_clock_monotonic_ms() + TOB_REGISTRY_RETRY_MS;
}

// The lock is held. Is there something to do, besides what has its time?
static bool has_work(const tob_registry_service *service) {
    return service->count > 0 || service->others_changed || service->stopping;
}

// Waits with the lock held.
static void wait_for_work(tob_registry_service *service, const turn *t) {
    bool behind = t->behind || tob_registry_sync_away(service->options.sync);
    while (!has_work(service)) {
        if (behind) {
            if (!tob_cond_wait_until(&service->wake, &service->lock, t->sync_at_ms)) {
                return;
            }
        } else if (t->imports) {
            uint64_t at = tob_clock_monotonic_ms() + TOB_REGISTRY_IMPORT_IDLE_MS / 4;
            if (!tob_cond_wait_until(&service->wake, &service->lock, at)) {
                return;
            }
        } else {
            pthread_cond_wait(&service->wake, &service->lock);
        }
    }
}

// One turn, without the lock: first what others changed, then a call.
static void take_turn(tob_registry_service *service, turn *t, bool others_changed, job *j) {
    bool behind = t->behind || tob_registry_sync_away(service->options.sync);
    if (others_changed || (behind && tob_clock_monotonic_ms() >= t->sync_at_ms)) {
        sync_now(service, t);
    }
    if (j) {
        carry_out(service, j);
    }
    t->imports = tob_imports_expire(service->imports, tob_clock_monotonic_ms());
}

static void *work(void *user) {
    tob_registry_service *service = user;
    turn t = {.sync_at_ms = 0};
    pthread_mutex_lock(&service->lock);
    for (;;) {
        wait_for_work(service, &t);
        if (service->count == 0 && service->stopping) {
            break;
        }
        bool others_changed = service->others_changed, called = service->count > 0;
        service->others_changed = false;
        job j = {.method = NULL};
        if (called) {
            j = service->queue[service->first];
            service->first = (service->first + 1) % TOB_REGISTRY_QUEUE_MAX;
            service->count--;
        }
        pthread_mutex_unlock(&service->lock);
        take_turn(service, &t, others_changed, called ? &j : NULL);
        pthread_mutex_lock(&service->lock);
    }
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

// On a thread of the database's. That it is back is only believed when the worker could read it.
static void on_watch(void *user, bool away) {
    tob_registry_service *service = user;
    if (away) {
        tob_registry_sync_set_away(service->options.sync, true);
    }
    pthread_mutex_lock(&service->lock);
    service->others_changed = true;
    pthread_cond_signal(&service->wake);
    pthread_mutex_unlock(&service->lock);
}

// ---- its life

static void add_entrances(tob_registry_service *service, const tob_registry_method *methods) {
    for (; methods->name && service->entrance_count < MAX_METHODS; methods++) {
        service->entrances[service->entrance_count++] = (entrance){.service = service, .method = methods};
    }
}

tob_error tob_registry_service_new(const tob_registry_service_options *options, tob_registry_service **ret) {
    tob_registry_service *service = calloc(1, sizeof(*service));
    if (!service) {
        return TOB_NO_MEMORY;
    }
    service->options = *options;
    pthread_mutex_init(&service->lock, NULL);
    tob_cond_init(&service->wake);
    tob_registry_door_init(&service->door, options);
    tob_error err = tob_imports_new(&service->imports);
    if (err) {
        tob_registry_service_free(service);
        return err;
    }
    *ret = service;
    return TOB_OK;
}

static tob_error serve(tob_registry_service *service, tob_rpc_server *server,
                       const ProtobufCServiceDescriptor *descriptor, const tob_registry_method *methods) {
    size_t first = service->entrance_count;
    add_entrances(service, methods);
    for (size_t i = first; i < service->entrance_count; i++) {
        entrance *at = &service->entrances[i];
        tob_error err = tob_rpc_server_add(server, descriptor, at->method->name, on_call, at);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

tob_error tob_registry_service_register(tob_registry_service *service, tob_rpc_server *server) {
    const struct {
        const ProtobufCServiceDescriptor *descriptor;
        const tob_registry_method *methods;
    } tables[] = {
        {&tobogganing__v1__registry__descriptor, tob_client_methods},
        {&tobogganing__v1__registry__descriptor, tob_import_methods},
        {&tobogganing__v1__registry__descriptor, tob_cluster_methods},
        {&tobogganing__v1__registry__descriptor, tob_headend_methods},
        {&tobogganing__v1__registry__descriptor, tob_audit_methods},
        {&tobogganing__v1__certificates__descriptor, tob_certificate_methods},
        {&tobogganing__v1__signing_keys__descriptor, tob_signing_key_methods},
    };
    tob_error err = TOB_OK;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !err; i++) {
        err = serve(service, server, tables[i].descriptor, tables[i].methods);
    }
    return err;
}

tob_error tob_registry_service_start(tob_registry_service *service) {
    tob_error err = tob_registry_watch(service->options.registry, on_watch, service);
    if (err) {
        return err;
    }
    if (pthread_create(&service->thread, NULL, work, service) != 0) {
        tob_registry_unwatch(service->options.registry);
        return TOB_INTERNAL;
    }
    service->running = true;
    return TOB_OK;
}

void tob_registry_service_stop(tob_registry_service *service) {
    if (!service) {
        return;
    }
    pthread_mutex_lock(&service->lock);
    service->stopping = true;
    pthread_cond_signal(&service->wake);
    pthread_mutex_unlock(&service->lock);
    if (service->running) {
        pthread_join(service->thread, NULL);
        service->running = false;
        tob_registry_unwatch(service->options.registry);
    }
    for (; service->count > 0; service->count--) { // it was never started
        tob_rpc_fail(service->queue[service->first].call.call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS,
                     "the server is stopping");
        service->first = (service->first + 1) % TOB_REGISTRY_QUEUE_MAX;
    }
}

void tob_registry_service_free(tob_registry_service *service) {
    if (!service) {
        return;
    }
    tob_registry_service_stop(service);
    tob_imports_free(service->imports);
    pthread_mutex_destroy(&service->lock);
    pthread_cond_destroy(&service->wake);
    free(service);
}
