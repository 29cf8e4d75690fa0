// libtobogganing-agent: report a VPN client's or a headend's metrics from your own program.
//
// Samples wait in memory, are sent in compressed batches over NNG, and are repeated until the server has
// acknowledged them; what is acknowledged is durable. The library has no global state, installs no signal handlers,
// never exits, never prints.
//
//   tob_agent *agent = NULL;
//   tob_agent_options options = {.server = "tcp://127.0.0.1:8010", .agent_id = "my-router"};
//   if (tob_agent_open(&options, &agent) == TOB_AGENT_OK) {
//       tob_agent_client_sample sample = {.present = TOB_AGENT_BYTES_SENT, .bytes_sent = 1048576};
//       tob_agent_record_client(agent, "test-client", "tobk_…", 0, &sample);
//       tob_agent_close(agent, 5000);
//   }
//
// Link with: pkg-config --cflags --libs tobogganing-agent
//
// Threads: any thread may record, flush and read statistics; one opens and closes. Recording never blocks on the
//          network. Do not fork after tob_agent_open.
#ifndef TOBOGGANING_AGENT_H
#define TOBOGGANING_AGENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOB_AGENT_API __attribute__((visibility("default")))

typedef enum tob_agent_status {
    TOB_AGENT_OK = 0,
    TOB_AGENT_INVALID = 1, // an option, id, credential or name that no server accepts
    TOB_AGENT_FULL = 2,    // max_queued samples wait already: this one was not taken
    TOB_AGENT_TIMEOUT = 3, // not everything was acknowledged in time
    TOB_AGENT_NO_MEMORY = 4,
    TOB_AGENT_FAILED = 5,
} tob_agent_status;

typedef struct tob_agent tob_agent;

typedef struct tob_agent_options {
    const char *server;         // comma-separated, "tcp://HOST:PORT"; copied. Of several, and of several addresses of a
                                // name, one is used until it fails
    const char *agent_id;       // stable per installation, 1-128 bytes of [A-Za-z0-9._:-]; copied
    uint64_t batch_interval_ms; // 0: as often as the server asks
    size_t max_queued;          // samples; 0: 100 000
    // Told in a few words what goes wrong (a refused series, a server that is away), from the library's own thread;
    // may be NULL. Must not call the library.
    void (*on_problem)(void *user, const char *text);
    void *user;
} tob_agent_options;

// Bits of `present`: which values of a sample are meant; 0 is a plain check-in.
enum {
    TOB_AGENT_BYTES_SENT = 1 << 0,
    TOB_AGENT_BYTES_RECEIVED = 1 << 1,
    TOB_AGENT_PACKETS_SENT = 1 << 2,
    TOB_AGENT_PACKETS_RECEIVED = 1 << 3,
    TOB_AGENT_CONNECTION_UPTIME = 1 << 4,

    TOB_AGENT_ACTIVE_CONNECTIONS = 1 << 0,
    TOB_AGENT_BANDWIDTH_IN = 1 << 1,
    TOB_AGENT_BANDWIDTH_OUT = 1 << 2,
    TOB_AGENT_CPU_USAGE = 1 << 3,
    TOB_AGENT_MEMORY_USAGE = 1 << 4,
};

// Counters since the tunnel came up, 0…2^63-1.
typedef struct tob_agent_client_sample {
    int64_t time_unix_ms; // 0: now
    uint32_t present;
    int64_t bytes_sent;
    int64_t bytes_received;
    int64_t packets_sent;
    int64_t packets_received;
    int64_t connection_uptime_ms;
} tob_agent_client_sample;

// Gauges, finite, 0…2^63-1.
typedef struct tob_agent_headend_sample {
    int64_t time_unix_ms; // 0: now
    uint32_t present;
    double active_connections;
    double bandwidth_in;  // bytes per second
    double bandwidth_out; // bytes per second
    double cpu_usage;     // percent of the machine
    double memory_usage;  // bytes
} tob_agent_headend_sample;

// In samples, since tob_agent_open.
typedef struct tob_agent_statistics {
    uint64_t recorded;
    uint64_t acknowledged;
    uint64_t rejected; // by the server, for good
    uint64_t waiting;
} tob_agent_statistics;

// tob_agent_open begins to connect in the background.
//   ret   set on success; ended by tob_agent_close
TOB_AGENT_API tob_agent_status tob_agent_open(const tob_agent_options *options, tob_agent **ret);

// tob_agent_record_client queues one sample; everything is copied. api_key: the client's, "tobk_…".
TOB_AGENT_API tob_agent_status tob_agent_record_client(tob_agent *agent, const char *client_id,
                                                       const char *api_key, int headless,
                                                       const tob_agent_client_sample *sample);

// tob_agent_record_headend, likewise. token: the headend's JWT. name: NULL for the registered one.
TOB_AGENT_API tob_agent_status tob_agent_record_headend(tob_agent *agent, const char *headend_id,
                                                        const char *token, const char *name,
                                                        const tob_agent_headend_sample *sample);

// tob_agent_flush sends what waits without waiting for the interval, until all is answered or timeout_ms is over.
TOB_AGENT_API tob_agent_status tob_agent_flush(tob_agent *agent, uint64_t timeout_ms);

TOB_AGENT_API void tob_agent_get_statistics(tob_agent *agent, tob_agent_statistics *ret);

// tob_agent_close flushes and ends; samples that were not acknowledged within timeout_ms are lost, and then it
// returns TOB_AGENT_TIMEOUT. NULL is accepted.
TOB_AGENT_API tob_agent_status tob_agent_close(tob_agent *agent, uint64_t timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
