#include "ingestd/registry_service.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/door.h"
#include "ingestd/registry_methods.h"
#include "util/clock.h"

typedef struct job {
    const tob_registry_method *method;
    tob_rpc_call *call;
    const ProtobufCMessage *request;
} job;

// What a handler gets as its `user`.
typedef struct entrance {
    tob_registry_service *service;
    const tob_registry_method *method;
} entrance;

struct tob_registry_service {
    tob_registry_service_options options;
    tob_door door;
    entrance entrances[TOB_REGISTRY_METHOD_COUNT];
    pthread_t thread;
    pthread_mutex_t lock; // guards the queue and stopping
    pthread_cond_t wake;
    job queue[TOB_REGISTRY_QUEUE_MAX]; // a ring
    size_t first;
    size_t count;
    bool stopping;
    bool joined;
};

static void on_call(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    const entrance *at = user;
    tob_registry_service *service = at->service;
    if (!tob_door_open(&service->door, call)) {
        return;
    }
    pthread_mutex_lock(&service->lock);
    bool stopping = service->stopping, full = service->count == TOB_REGISTRY_QUEUE_MAX;
    if (!stopping && !full) {
        size_t place = (service->first + service->count++) % TOB_REGISTRY_QUEUE_MAX;
        service->queue[place] = (job){.method = at->method, .call = call, .request = request};
        pthread_cond_signal(&service->wake);
    }
    pthread_mutex_unlock(&service->lock);
    if (stopping) {
        tob_rpc_fail(call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "the server is stopping");
    } else if (full) {
        tob_rpc_fail(call, TOB_BUSY, TOB_REGISTRY_RETRY_MS, "too many registry calls are waiting");
    }
}

static void carry_out(const tob_registry_service *service, const job *j) {
    if (tob_clock_monotonic_ms() >= tob_rpc_call_deadline_ms(j->call)) {
        tob_rpc_fail(j->call, TOB_DEADLINE, 0, "the call waited longer than its caller; nothing was changed");
        return;
    }
    j->method->carry_out(&service->options, j->call, j->request);
}

static void *work(void *user) {
    tob_registry_service *service = user;
    pthread_mutex_lock(&service->lock);
    for (;;) {
        while (service->count == 0 && !service->stopping) {
            pthread_cond_wait(&service->wake, &service->lock);
        }
        if (service->count == 0) {
            break;
        }
        job j = service->queue[service->first];
        service->first = (service->first + 1) % TOB_REGISTRY_QUEUE_MAX;
        service->count--;
        pthread_mutex_unlock(&service->lock);
        carry_out(service, &j);
        pthread_mutex_lock(&service->lock);
    }
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

tob_error tob_registry_service_new(const tob_registry_service_options *options, tob_registry_service **ret) {
    tob_registry_service *service = calloc(1, sizeof(*service));
    if (!service) {
        return TOB_NO_MEMORY;
    }
    service->options = *options;
    tob_door_init(&service->door, options->admin_secrets, "ADMIN_TOKEN", "admin", options->process);
    for (size_t i = 0; i < TOB_REGISTRY_METHOD_COUNT; i++) {
        service->entrances[i] = (entrance){.service = service, .method = &tob_registry_methods[i]};
    }
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->wake, NULL);
    if (pthread_create(&service->thread, NULL, work, service) != 0) {
        service->joined = true;
        tob_registry_service_free(service);
        return TOB_INTERNAL;
    }
    *ret = service;
    return TOB_OK;
}

tob_error tob_registry_service_register(tob_registry_service *service, tob_rpc_server *server) {
    for (size_t i = 0; i < TOB_REGISTRY_METHOD_COUNT; i++) {
        tob_error err = tob_rpc_server_add(server, &tobogganing__v1__registry__descriptor,
                                           tob_registry_methods[i].name, on_call, &service->entrances[i]);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

void tob_registry_service_stop(tob_registry_service *service) {
    if (!service || service->joined) {
        return;
    }
    pthread_mutex_lock(&service->lock);
    service->stopping = true;
    pthread_cond_signal(&service->wake);
    pthread_mutex_unlock(&service->lock);
    pthread_join(service->thread, NULL);
    service->joined = true;
}

void tob_registry_service_free(tob_registry_service *service) {
    if (!service) {
        return;
    }
    tob_registry_service_stop(service);
    pthread_mutex_destroy(&service->lock);
    pthread_cond_destroy(&service->wake);
    free(service);
}
