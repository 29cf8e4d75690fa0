// tob_scrape answers the exporter's HTTP routes: GET /metrics (and HEAD) behind the metrics token, GET
// /healthz, /readyz and /.
//
// A scrape is streamed: one piece of tob_body at a time, the next when the socket took the one before. A
// reader that takes nothing for stall_ms is cut off; at most max_scrapes run at once.
//
// Threads: _new, _register and _free from one, around the server's life.
#ifndef TOB_EXPORTER_SCRAPE_H
#define TOB_EXPORTER_SCRAPE_H

#include <stdint.h>

#include "exporter/instances.h"
#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "http/server.h"
#include "rpc/process.h"
#include "util/secret.h"

#define TOB_SCRAPE_STALL_MS       30000u
#define TOB_SCRAPE_RETRY_AFTER_MS 1000u

typedef struct tob_scrape tob_scrape;

typedef struct tob_scrape_options {
    tob_mirror *mirror; // all borrowed for its life
    tob_manager *manager;
    const tob_instances *instances;
    unsigned parts; // a set of TOB_PART_… of exposition.h: what this exporter has; others are empty
    tob_secrets *tokens;
    tob_counter *auth_success;
    tob_counter *auth_failure;
    uint64_t max_scrapes;
    uint64_t stall_ms;
} tob_scrape_options;

TOB_MUST_USE tob_error tob_scrape_new(const tob_scrape_options *options, tob_scrape **ret);
void tob_scrape_free(tob_scrape *scrape);

// tob_scrape_register adds the routes. The server has to be made with tob_scrape_worker_start and _stop as
// its on_worker_… functions, and the tob_scrape as their user. Errors: as tob_http_server_route.
TOB_MUST_USE tob_error tob_scrape_register(tob_scrape *scrape, tob_http_server *server);
void *tob_scrape_worker_start(void *user, tob_http_worker *worker);
void tob_scrape_worker_stop(void *user, tob_http_worker *worker, void *state);

#endif
