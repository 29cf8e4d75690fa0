// bench_submit_load submits batches of a simulated fleet to ingestd as fast as it takes them, and prints what came of
// it as one JSON object. Every answer is checked: a rejected series or a failed call fails the run.
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"

#include "fleet.h"
#include "latency.h"
#include "process_cpu.h"
#include "rpc/client.h"
#include "unpack_limit.h"
#include "util/clock.h"
#include "util/options.h"
#include "wire/batch.h"

#define SUBMIT     "/tobogganing.v1.Ingest/Submit"
// Samples begin this long ago, so that a run does not reach the future.
#define HISTORY_MS (30 * UINT64_C(86400000))

enum {
    CALL_TIMEOUT_MS = 30000,
    CONNECT_TIMEOUT_MS = 10000,
    MAX_FD = 4096,
    MAX_CONNECTIONS = 1024,
};

static struct {
    const char *url;
    const char *clients;
    const char *pids;
    uint64_t series;
    uint64_t samples;
    uint64_t interval_ms;
    uint64_t in_flight;
    uint64_t connections;
    uint64_t duration_ms;
    uint64_t rounds;
    uint64_t limit_ms;
    bool compress;
} settings;

static const tob_option options[] = {
    {.name = "url", .value = "URL", .kind = TOB_OPTION_STRING, .target = &settings.url, .help = "ingestd's."},
    {.name = "clients",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.clients,
     .help = "Lines of \"ID KEY\"."},
    {.name = "pids",
     .value = "PID[,PID…]",
     .kind = TOB_OPTION_STRING,
     .target = &settings.pids,
     .help = "Processes whose CPU time is measured."},
    {.name = "series",
     .value = "N",
     .fallback = "1",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.series,
     .min = 1,
     .max = TOB_MAX_SERIES_PER_BATCH,
     .help = "Clients in a batch."},
    {.name = "samples",
     .value = "N",
     .fallback = "60",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.samples,
     .min = 1,
     .max = TOB_MAX_SAMPLES_PER_SERIES,
     .help = "Samples of each."},
    {.name = "interval",
     .value = "DURATION",
     .fallback = "10s",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.interval_ms,
     .min = 1,
     .help = "Between samples."},
    {.name = "in-flight",
     .value = "N",
     .fallback = "64",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.in_flight,
     .min = 1,
     .max = 4096,
     .help = "Calls at once, over all connections."},
    {.name = "connections",
     .value = "N",
     .fallback = "1",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.connections,
     .min = 1,
     .max = MAX_CONNECTIONS,
     .help = "Each takes calls in its turn."},
    {.name = "seconds",
     .value = "DURATION",
     .fallback = "5",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.duration_ms,
     .help = "How long."},
    {.name = "rounds",
     .value = "N",
     .fallback = "0",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.rounds,
     .help = "Instead: how often every client reports."},
    {.name = "limit",
     .value = "DURATION",
     .fallback = "0",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.limit_ms,
     .help = "Also measure, for so long, a bare inflate and unpack of the same batches in one thread."},
    {.name = "compress",
     .kind = TOB_OPTION_FLAG,
     .target = &settings.compress,
     .help = "zlib, as the agent does."},
};

static const tob_command command = {.program = "bench_submit_load",
                                    .summary = "submits batches of a simulated fleet",
                                    .options = options,
                                    .option_count = sizeof(options) / sizeof(options[0])};

typedef struct load load;

// One call under way.
typedef struct slot {
    load *load;
    uint64_t started_ns;
    struct slot *next_free;
} slot;

struct load {
    fleet fleet;
    size_t next_client;
    uint64_t number;
    tob_batch_builder *builder;
    tob_client_sample *samples;
    tob_buffer body;
    tob_rpc_client *clients[MAX_CONNECTIONS];
    size_t next_connection;
    latencies latency;
    sem_t free_count;
    pthread_mutex_t lock; // guards free_slots
    slot *free_slots;
    slot *slots;
    atomic_uint_least64_t acked_samples;
    atomic_uint_least64_t acked_batches;
    atomic_uint failures;
};

typedef struct result {
    double seconds;
    double cpu_s;
    double limit_batches_per_s;
    uint64_t batches;
    uint64_t reports;
    uint64_t wire_bytes;
    uint64_t stored; // as ingestd counts
} result;

// ---- batches

static tob_error begin(load *l, uint64_t start_unix_ms) {
    fleet_free(&l->fleet);
    l->next_client = 0;
    l->number = 0;
    return fleet_read(settings.clients, start_unix_ms, &l->fleet);
}

// Packs the next batch.
static tob_error next_batch(void *user, tob_buffer *to) {
    load *l = user;
    tob_batch_clear(l->builder);
    for (uint64_t i = 0; i < settings.series; i++) {
        fleet_client *client = &l->fleet.clients[l->next_client];
        l->next_client = (l->next_client + 1) % l->fleet.count;
        fleet_sample(client, settings.interval_ms, l->samples, settings.samples);
        tob_error err =
            tob_batch_add_client(l->builder, client->id, client->key, false, l->samples, settings.samples);
        if (err) {
            return err;
        }
    }
    return tob_batch_pack(l->builder, ++l->number, to);
}

// ---- the run

static void fail(load *l, const char *what, const char *why) {
    if (atomic_fetch_add(&l->failures, 1) == 0) { // the first says it all
        fprintf(stderr, "bench_submit_load: %s: %s\n", what, why);
    }
}

static void check_answer(load *l, const tob_rpc_result *answer) {
    if (answer->error) {
        fail(l, tob_error_string(answer->error), answer->message ? answer->message : "");
        return;
    }
    Tobogganing__V1__SubmitResponse *response =
        tobogganing__v1__submit_response__unpack(NULL, answer->body_len, answer->body);
    if (!response) {
        fail(l, "the answer", "is not a SubmitResponse");
    } else if (response->n_rejected > 0) {
        fail(l, "a series was rejected", response->rejected[0]->reason);
    } else if (response->stored_samples != settings.series * settings.samples || !response->durable) {
        fail(l, "the answer", "does not say that all samples are durable");
    } else {
        atomic_fetch_add_explicit(&l->acked_samples, response->stored_samples, memory_order_relaxed);
        atomic_fetch_add_explicit(&l->acked_batches, 1, memory_order_relaxed);
    }
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
}

static void on_answer(void *user, const tob_rpc_result *answer) {
    slot *s = user;
    load *l = s->load;
    latency_add(&l->latency, tob_clock_monotonic_ns() - s->started_ns);
    check_answer(l, answer);
    pthread_mutex_lock(&l->lock);
    s->next_free = l->free_slots;
    l->free_slots = s;
    pthread_mutex_unlock(&l->lock);
    sem_post(&l->free_count);
}

static void take_free(load *l) {
    while (sem_wait(&l->free_count) != 0) {
    }
}

static void send_batch(load *l) {
    pthread_mutex_lock(&l->lock);
    slot *s = l->free_slots;
    l->free_slots = s->next_free;
    pthread_mutex_unlock(&l->lock);
    s->started_ns = tob_clock_monotonic_ns();
    tob_rpc_client *to = l->clients[l->next_connection++ % settings.connections];
    tob_error err = tob_rpc_client_call(to, SUBMIT, l->body.data, l->body.len, CALL_TIMEOUT_MS, on_answer, s);
    if (err) {
        on_answer(s, &(tob_rpc_result){.error = err, .message = "the call was not made"});
    }
}

static void run(load *l) {
    uint64_t end_ns = tob_clock_monotonic_ns() + settings.duration_ms * 1000000;
    uint64_t left = (settings.rounds * l->fleet.count + settings.series - 1) / settings.series;
    while (atomic_load(&l->failures) == 0 &&
           (settings.rounds ? left-- > 0 : tob_clock_monotonic_ns() < end_ns)) {
        tob_buffer_clear(&l->body);
        tob_error err = next_batch(l, &l->body);
        if (err) {
            fail(l, "a batch", tob_error_string(err));
            return;
        }
        take_free(l);
        send_batch(l);
    }
    for (uint64_t i = 0; i < settings.in_flight; i++) { // all have answered
        take_free(l);
    }
}

// ---- what it came to

// Stored samples since ingestd's start. It answers once `client` is connected, so this also waits for that.
static tob_error stored_samples(load *l, tob_rpc_client *client, uint64_t *ret) {
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    tob_rpc_failure failure = {.message = ""};
    tob_error err = tob_rpc_client_call_wait(client, "/tobogganing.v1.Health/Check", &request.base,
                                             &tobogganing__v1__health_check_response__descriptor,
                                             CONNECT_TIMEOUT_MS, &response, &failure);
    if (err) {
        fail(l, "Health.Check", failure.message);
        return err;
    }
    *ret = ((Tobogganing__V1__HealthCheckResponse *)response)->stored_samples;
    protobuf_c_message_free_unpacked(response, NULL);
    return TOB_OK;
}

// Bytes that our connections to the server have sent, as the kernel counts them (tcp(7), TCP_INFO).
static uint64_t sent_bytes(void) {
    uint64_t sum = 0;
    unsigned long port = strtoul(strrchr(settings.url, ':') + 1, NULL, 10);
    for (int fd = 0; fd < MAX_FD; fd++) {
        struct sockaddr_in peer = {0};
        struct tcp_info info = {0};
        socklen_t peer_len = sizeof(peer), info_len = sizeof(info);
        if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == port && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0) {
            sum += info.tcpi_bytes_sent;
        }
    }
    return sum;
}

static tob_error measure(load *l, result *r) {
    uint64_t stored = 0;
    double cpu_s = 0;
    tob_error err = TOB_OK;
    for (uint64_t i = 0; i < settings.connections && !err; i++) {
        err = stored_samples(l, l->clients[i], &stored);
    }
    if (!err && settings.pids) {
        err = process_cpu_s(settings.pids, &cpu_s);
    }
    if (err) {
        return err;
    }
    uint64_t sent = sent_bytes();
    uint64_t start_ns = tob_clock_monotonic_ns();
    run(l);
    r->seconds = (double)(tob_clock_monotonic_ns() - start_ns) / 1e9;
    r->wire_bytes = sent_bytes() - sent;
    if (settings.pids) {
        err = process_cpu_s(settings.pids, &r->cpu_s);
        r->cpu_s -= cpu_s;
    }
    r->reports = atomic_load(&l->acked_samples);
    r->batches = atomic_load(&l->acked_batches);
    if (!err) {
        err = stored_samples(l, l->clients[0], &r->stored);
        r->stored -= stored;
    }
    if (!err && r->stored != r->reports) {
        fail(l, "ingestd", "has not stored as many samples as it acknowledged");
    }
    return atomic_load(&l->failures) ? TOB_INTERNAL : err;
}

// ----

static tob_error load_init(load *l) {
    tob_error err = latency_init(&l->latency);
    tob_buffer_init(&l->body, TOB_MAX_INFLATED_BYTES);
    pthread_mutex_init(&l->lock, NULL);
    sem_init(&l->free_count, 0, (unsigned)settings.in_flight);
    l->samples = calloc(settings.samples, sizeof(*l->samples));
    l->slots = calloc(settings.in_flight, sizeof(*l->slots));
    if (err || !l->samples || !l->slots) {
        return TOB_NO_MEMORY;
    }
    for (uint64_t i = 0; i < settings.in_flight; i++) {
        l->slots[i] = (slot){.load = l, .next_free = l->free_slots};
        l->free_slots = &l->slots[i];
    }
    tob_rpc_client_options client_options = {.urls = settings.url,
                                             .max_in_flight = (unsigned)settings.in_flight + 1,
                                             .compress = settings.compress};
    err = tob_batch_builder_new("bench", 1, TOB_MAX_INFLATED_BYTES * 4, &l->builder);
    for (uint64_t i = 0; i < settings.connections && !err; i++) {
        err = tob_rpc_client_new(&client_options, &l->clients[i]);
    }
    return err;
}

static void load_fini(load *l) {
    for (uint64_t i = 0; i < settings.connections; i++) {
        tob_rpc_client_free(l->clients[i]);
    }
    tob_batch_builder_free(l->builder);
    tob_buffer_fini(&l->body);
    fleet_free(&l->fleet);
    latency_fini(&l->latency);
    free(l->samples);
    free(l->slots);
}

static void print_result(load *l, const result *r) {
    double reports = (double)r->reports;
    printf(
        "{\"seconds\": %.3f, \"batches\": %llu, \"reports\": %llu, \"reports_per_s\": %.0f, \"cpu_s\": %.2f, "
        "\"reports_per_cpu_s\": %.0f, \"wire_bytes_per_report\": %.2f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
        "\"max_ms\": %.3f",
        r->seconds, (unsigned long long)r->batches, (unsigned long long)r->reports, reports / r->seconds,
        r->cpu_s, r->cpu_s > 0 ? reports / r->cpu_s : 0, reports > 0 ? (double)r->wire_bytes / reports : 0,
        latency_ms(&l->latency, 0.5), latency_ms(&l->latency, 0.99), latency_ms(&l->latency, 1));
    if (settings.limit_ms) {
        printf(", \"limit_reports_per_cpu_s\": %.0f",
               r->limit_batches_per_s * (double)(settings.series * settings.samples));
    }
    printf("}\n");
}

int main(int argc, char **argv) {
    static load l;
    char **args = NULL;
    size_t arg_count = 0;
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status >= 0) {
        return status;
    }
    if (!settings.url || !strrchr(settings.url, ':') || !settings.clients) {
        return tob_options_error(&command, settings.clients ? "url" : "clients", "is required");
    }
    result r = {0};
    uint64_t start_unix_ms = tob_clock_unix_ms() - HISTORY_MS;
    tob_error err = load_init(&l);
    err = err ? err : begin(&l, start_unix_ms);
    err = err ? err : measure(&l, &r);
    if (!err && settings.limit_ms) { // from the first client again: the same batches
        err = begin(&l, start_unix_ms);
        err =
            err ? err
                : unpack_limit(next_batch, &l, settings.compress, settings.limit_ms, &r.limit_batches_per_s);
    }
    if (err) {
        fprintf(stderr, "bench_submit_load: failed: %s\n", tob_error_string(err));
    } else {
        print_result(&l, &r);
    }
    load_fini(&l);
    return err ? 1 : 0;
}
