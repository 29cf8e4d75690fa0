// bench_http_load sends the documented client report over keep-alive HTTP/1.1 connections, one request at a time on
// each, and prints what came of it as one JSON object. Anything but 200 with the documented answer fails the run.
// One thread: it shares the machine with what it measures.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fleet.h"
#include "latency.h"
#include "process_cpu.h"
#include "util/clock.h"
#include "util/options.h"

enum { MAX_REQUEST_BYTES = 1024, MAX_RESPONSE_BYTES = 4096, EVENTS = 256, STALL_MS = 10000 };

static const char expected_body[] = "{\"status\":\"metrics_received\"}";

static struct {
    const char *address;
    const char *clients;
    const char *pids;
    uint64_t connections;
    uint64_t duration_ms;
} settings;

static const tob_option options[] = {
    {.name = "address",
     .value = "IPV4:PORT",
     .kind = TOB_OPTION_STRING,
     .target = &settings.address,
     .help = "The gateway's."},
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
    {.name = "connections",
     .value = "N",
     .fallback = "64",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.connections,
     .min = 1,
     .max = 10000,
     .help = "At once."},
    {.name = "seconds",
     .value = "DURATION",
     .fallback = "5",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.duration_ms,
     .help = "How long."},
};

static const tob_command command = {.program = "bench_http_load",
                                    .summary = "sends documented reports over HTTP",
                                    .options = options,
                                    .option_count = sizeof(options) / sizeof(options[0])};

typedef struct request {
    char *bytes;
    size_t n;
} request;

typedef struct connection {
    int fd;
    bool busy;
    uint64_t started_ns;
    size_t received;
    char response[MAX_RESPONSE_BYTES + 1];
} connection;

typedef struct load {
    request *requests; // one for each client
    size_t request_count;
    size_t next_request;
    connection *connections;
    size_t busy;
    int epoll_fd;
    uint64_t end_ns;
    latencies latency;
    uint64_t answered;
    uint64_t failures;
} load;

static void fail(load *l, const char *what, const char *why) {
    if (l->failures++ == 0) { // the first says it all
        fprintf(stderr, "bench_http_load: %s: %s\n", what, why);
    }
}

static tob_error render_request(fleet_client *client, request *ret) {
    char body[MAX_REQUEST_BYTES];
    tob_client_sample sample;
    fleet_sample(client, 60000, &sample, 1);
    const long long *v = (const long long *)sample.values;
    int body_len =
        snprintf(body, sizeof(body),
                 "{\"headless\": false, \"metrics\": {\"bytes_sent\": %lld, \"bytes_received\": %lld, "
                 "\"packets_sent\": %lld, \"packets_received\": %lld, \"connection_uptime\": %lld}}",
                 v[TOB_CLIENT_BYTES_SENT], v[TOB_CLIENT_BYTES_RECEIVED], v[TOB_CLIENT_PACKETS_SENT],
                 v[TOB_CLIENT_PACKETS_RECEIVED], v[TOB_CLIENT_CONNECTION_UPTIME] / 1000);
    int n = asprintf(&ret->bytes,
                     "POST /api/v1/clients/%s/metrics HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                     "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                     client->id, settings.address, client->key, body_len, body);
    ret->n = (size_t)n;
    return n < 0 ? TOB_NO_MEMORY : TOB_OK;
}

static tob_error render_requests(load *l) {
    fleet all = {0};
    tob_error err = fleet_read(settings.clients, tob_clock_unix_ms(), &all);
    if (err) {
        return err;
    }
    l->requests = calloc(all.count, sizeof(*l->requests));
    err = l->requests ? TOB_OK : TOB_NO_MEMORY;
    for (size_t i = 0; i < all.count && !err; i++) {
        err = render_request(&all.clients[i], &l->requests[i]);
        l->request_count = i + 1;
    }
    fleet_free(&all);
    return err;
}

static tob_error connect_one(load *l, connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    unsigned port = 0;
    int on = 1;
    if (sscanf(settings.address, "%63[0-9.]:%u", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return TOB_INVALID;
    }
    address.sin_port = htons((uint16_t)port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        return tob_error_from_errno(errno);
    }
    return TOB_OK;
}

// A request fits into an empty socket buffer, so the write is whole or an error.
static void send_next(load *l, connection *c) {
    const request *r = &l->requests[l->next_request];
    l->next_request = (l->next_request + 1) % l->request_count;
    c->received = 0;
    c->busy = true;
    l->busy++;
    c->started_ns = tob_clock_monotonic_ns();
    if (send(c->fd, r->bytes, r->n, MSG_NOSIGNAL) != (ssize_t)r->n) {
        fail(l, "sending a request", strerror(errno));
    }
}

// The bytes of the whole response, or 0 while some are missing.
static size_t response_bytes(const connection *c) {
    const char *end = strstr(c->response, "\r\n\r\n");
    const char *length = strcasestr(c->response, "\r\ncontent-length:");
    return end && length && length < end ? (size_t)(end + 4 - c->response) + strtoul(length + 17, NULL, 10)
                                         : 0;
}

static void check_response(load *l, connection *c) {
    const char *body = strstr(c->response, "\r\n\r\n") + 4;
    if (strncmp(c->response, "HTTP/1.1 200 ", 13) != 0 || strcmp(body, expected_body) != 0) {
        fail(l, "not the documented answer", c->response);
        return;
    }
    l->answered++;
}

static void on_readable(load *l, connection *c) {
    ssize_t n = recv(c->fd, c->response + c->received, MAX_RESPONSE_BYTES - c->received, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            fail(l, "a connection", n == 0 ? "was closed, or its response is too long" : strerror(errno));
        }
        return;
    }
    c->received += (size_t)n;
    c->response[c->received] = 0;
    size_t whole = response_bytes(c);
    if (!c->busy || (whole && c->received > whole)) {
        fail(l, "a connection", "more came than was asked for");
    } else if (c->received == whole) {
        uint64_t now_ns = tob_clock_monotonic_ns();
        latency_add(&l->latency, now_ns - c->started_ns);
        check_response(l, c);
        c->busy = false;
        l->busy--;
        if (now_ns < l->end_ns && l->failures == 0) {
            send_next(l, c);
        }
    }
}

static tob_error start(load *l) {
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->connections = calloc(settings.connections, sizeof(*l->connections));
    tob_error err = l->connections ? render_requests(l) : TOB_NO_MEMORY;
    err = err ? err : latency_init(&l->latency);
    for (uint64_t i = 0; i < settings.connections && !err; i++) {
        err = connect_one(l, &l->connections[i]);
    }
    return err;
}

static void run(load *l) {
    struct epoll_event events[EVENTS];
    l->end_ns = tob_clock_monotonic_ns() + settings.duration_ms * 1000000;
    for (uint64_t i = 0; i < settings.connections; i++) {
        send_next(l, &l->connections[i]);
    }
    while (l->busy > 0 && l->failures == 0) {
        int n = epoll_wait(l->epoll_fd, events, EVENTS, STALL_MS);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            fail(l, "waiting for responses", n == 0 ? "none came for 10 s" : strerror(errno));
        }
        for (int i = 0; i < n; i++) {
            on_readable(l, events[i].data.ptr);
        }
    }
}

static void stop(load *l) {
    for (size_t i = 0; i < l->request_count; i++) {
        free(l->requests[i].bytes);
    }
    latency_fini(&l->latency);
    free(l->requests);
    free(l->connections); // the process ends: so do its sockets
}

int main(int argc, char **argv) {
    static load l;
    char **args = NULL;
    size_t arg_count = 0;
    double before_s = 0, after_s = 0;
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status >= 0) {
        return status;
    }
    if (!settings.address || !settings.clients || !settings.pids) {
        return tob_options_error(&command, "address", "is required, and so are --clients and --pids");
    }
    tob_error err = start(&l);
    err = err ? err : process_cpu_s(settings.pids, &before_s);
    if (err) {
        fprintf(stderr, "bench_http_load: can't start: %s\n", tob_error_string(err));
        stop(&l);
        return 1;
    }
    uint64_t start_ns = tob_clock_monotonic_ns();
    run(&l);
    double seconds = (double)(tob_clock_monotonic_ns() - start_ns) / 1e9;
    err = process_cpu_s(settings.pids, &after_s);
    double requests = (double)l.answered;
    printf("{\"seconds\": %.3f, \"connections\": %llu, \"requests\": %llu, \"failed\": %llu, "
           "\"requests_per_s\": %.0f, "
           "\"cpu_us_per_request\": %.2f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           seconds, (unsigned long long)settings.connections, (unsigned long long)l.answered,
           (unsigned long long)l.failures, requests / seconds,
           requests > 0 ? (after_s - before_s) * 1e6 / requests : 0, latency_ms(&l.latency, 0.5),
           latency_ms(&l.latency, 0.99));
    stop(&l);
    return err || l.failures ? 1 : 0;
}
