// "client delete", and with --erase: every ingestd is asked until nothing of the client is left, and what was removed is
// listed.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/registry.h"
#include "util/clock.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_SERVERS  64
#define POLL_MS      20 // for connections
#define ASK_FIRST_MS 50 // between two questions to one ingestd, at first
#define ASK_MOST_MS  1000
#define MAX_WAIT_MS  (UINT64_C(7) * 86400000)

// What one ingestd removed; NULL: it does not know the client.
typedef struct erased {
    tob_rpc_server_state server;
    Tobogganing__V1__Erasure *erasure;
} erased;

typedef struct erasing {
    tob_ctl_session session;
    const char *client_id;
    bool erase;
    uint64_t wait_ms;
    uint64_t deadline_ms;
    erased servers[MAX_SERVERS];
    size_t server_count;
} erasing;

static void sleep_ms(uint64_t ms) {
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

// --- asking -----------------------------------------------------------------------------------------------

static size_t connected_of(const tob_rpc_server_state *states, size_t count) {
    size_t connected = 0;
    for (size_t i = 0; i < count; i++) {
        connected += states[i].connected;
    }
    return connected;
}

// Waits until all servers behind the URLs are connected: none may be left out.
static int find_servers(erasing *e) {
    tob_rpc_server_state states[MAX_SERVERS];
    uint64_t end = tob_clock_monotonic_ms() + e->session.timeout_ms;
    size_t count = tob_rpc_client_servers(e->session.client, states, MAX_SERVERS);
    while ((count == 0 || connected_of(states, count < MAX_SERVERS ? count : MAX_SERVERS) < count) &&
           tob_clock_monotonic_ms() < end) {
        sleep_ms(POLL_MS);
        count = tob_rpc_client_servers(e->session.client, states, MAX_SERVERS);
    }
    if (count > MAX_SERVERS) {
        fprintf(stderr, TOB_CTL_PROGRAM ": more than %d ingestd; name fewer with --server\n", MAX_SERVERS);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (!states[i].connected) {
            fprintf(stderr,
                    TOB_CTL_PROGRAM
                    ": UNAVAILABLE: no connection to %s (is ingestd running there? see --server)\n",
                    states[i].address);
            return 1;
        }
        e->servers[i].server = states[i];
    }
    if (count == 0) {
        fprintf(stderr,
                TOB_CTL_PROGRAM ": UNAVAILABLE: no connection (is ingestd running at %s? see --server)\n",
                e->session.server);
    }
    e->server_count = count;
    return count ? 0 : 1;
}

static int give_up(const erased *s) {
    tob_ctl_progress("%s", "");
    fprintf(stderr,
            TOB_CTL_PROGRAM
            ": not done yet at %s: %s; it goes on without us, and the same command tells the rest\n",
            s->server.address, *s->erasure->progress ? s->erasure->progress : "waiting");
    return 1;
}

// One problem is told once.
static void tell_problem(const erased *s, const char *before) {
    if (*s->erasure->problem && strcmp(s->erasure->problem, before) != 0) {
        tob_ctl_progress("%s", "");
        fprintf(stderr, TOB_CTL_PROGRAM ": %s: %s (it is tried again)\n", s->server.address,
                s->erasure->problem);
    }
}

// Asks one ingestd until it is done.
static int erase_at(erasing *e, erased *s) {
    Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT;
    uint64_t pause_ms = ASK_FIRST_MS;
    request.client_id = (char *)e->client_id;
    e->session.only_server = s->server.id;
    for (;;) {
        ProtobufCMessage *response = NULL;
        int status = tob_ctl_call(&e->session, TOB_CTL_SERVICE "EraseClient", &request.base,
                                  &tobogganing__v1__erasure__descriptor, TOB_NOT_FOUND, &response);
        if (status || !response) {
            return status;
        }
        Tobogganing__V1__Erasure *before = s->erasure;
        s->erasure = (Tobogganing__V1__Erasure *)response;
        tell_problem(s, before ? before->problem : "");
        tobogganing__v1__erasure__free_unpacked(before, NULL);
        if (s->erasure->done) {
            return 0;
        }
        if (tob_clock_monotonic_ms() + pause_ms > e->deadline_ms) {
            return give_up(s);
        }
        tob_ctl_progress("%s: %s", s->server.address, s->erasure->progress);
        sleep_ms(pause_ms);
        pause_ms = pause_ms * 2 < ASK_MOST_MS ? pause_ms * 2 : ASK_MOST_MS;
    }
}

// --- telling ----------------------------------------------------------------------------------------------

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// All of them as one. The registry is one, so what was removed from it is not added up.
static Tobogganing__V1__Erasure sum_of(const erasing *e) {
    Tobogganing__V1__Erasure sum = TOBOGGANING__V1__ERASURE__INIT;
    sum.client_id = (char *)e->client_id;
    sum.done = true;
    for (size_t i = 0; i < e->server_count; i++) {
        const Tobogganing__V1__Erasure *one = e->servers[i].erasure;
        if (one) {
            sum.clients = (uint32_t)larger(sum.clients, one->clients);
            sum.certificates = (uint32_t)larger(sum.certificates, one->certificates);
            sum.fleet_rows += one->fleet_rows;
            sum.segments += one->segments;
            sum.segments_rewritten += one->segments_rewritten;
            sum.records += one->records;
            sum.samples += one->samples;
            sum.checkpoints += one->checkpoints;
            sum.finished_unix_ms = larger(sum.finished_unix_ms, one->finished_unix_ms);
        }
    }
    return sum;
}

// An object for each ingestd that knew the client.
static json_t *objects_of(const erasing *e) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < e->server_count; i++) {
        const erased *s = &e->servers[i];
        json_t *object = s->erasure ? tob_ctl_json(&s->erasure->base) : NULL;
        if (s->erasure && (json_object_set_new(object, "server", json_string(s->server.address)) ||
                           json_array_append_new(array, object))) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static int print_erased(const erasing *e) {
    static const tob_ctl_column columns[] = {
        {"INGESTD", "server"},        {"CLIENTS", "clients"},   {"CERTIFICATES", "certificates"},
        {"FLEET ROWS", "fleet_rows"}, {"SEGMENTS", "segments"}, {"REWRITTEN", "segments_rewritten"},
        {"RECORDS", "records"},       {"SAMPLES", "samples"},   {"CHECKPOINTS", "checkpoints"},
        {"DONE", "finished_unix_ms"},
    };
    tob_ctl_table table = {.columns = columns, .column_count = COUNT(columns)};
    json_t *objects = objects_of(e);
    if (!objects) {
        return tob_ctl_no_memory();
    }
    if (e->session.json) {
        Tobogganing__V1__Erasure sum = sum_of(e);
        json_t *json = tob_ctl_json(&sum.base);
        if (json_object_set_new(json, "ingestds", objects)) {
            json_decref(json);
            json = NULL;
        }
        return tob_ctl_print_json(json);
    }
    printf("%s is erased\n", e->client_id);
    tob_ctl_print_page(&table, objects);
    json_decref(objects);
    return tob_ctl_finish(0);
}

// --- the command ------------------------------------------------------------------------------------------

static int erase_everywhere(erasing *e, const tob_command *command) {
    size_t known = 0;
    int status = tob_ctl_open(&e->session, command, TOB_CTL_ADMIN);
    e->deadline_ms = tob_clock_monotonic_ms() + e->wait_ms;
    status = status ? status : find_servers(e);
    for (size_t i = 0; status == 0 && i < e->server_count; i++) {
        status = erase_at(e, &e->servers[i]);
        known += e->servers[i].erasure != NULL;
    }
    tob_ctl_progress("%s", "");
    if (status == 0 && known == 0) {
        fprintf(stderr, TOB_CTL_PROGRAM ": NOT_FOUND: %s\n",
                *e->session.last_call.message ? e->session.last_call.message : "no such client");
        status = 1;
    }
    if (status == 0) {
        status = print_erased(e);
    }
    for (size_t i = 0; i < e->server_count; i++) {
        tobogganing__v1__erasure__free_unpacked(e->servers[i].erasure, NULL);
    }
    tob_ctl_close(&e->session);
    return status;
}

static int delete (erasing *e, const tob_command *command) {
    Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT;
    ProtobufCMessage *response = NULL;
    request.client_id = (char *)e->client_id;
    int status = tob_ctl_ask(&e->session, command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "DeleteClient",
                             &request.base, &tobogganing__v1__delete_response__descriptor, TOB_OK, &response);
    if (status == 0 && e->session.json) {
        status = tob_ctl_print_json(tob_ctl_json(&request.base));
    } else if (status == 0) {
        tob_ctl_print_deleted(e->client_id, response);
        status = tob_ctl_finish(0);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

int tob_ctl_client_delete(const tob_ctl_command *self, int argc, char **argv) {
    erasing e = {.erase = false};
    const tob_option options[] = {
        {.name = "erase",
         .kind = TOB_OPTION_FLAG,
         .target = &e.erase,
         .help = "Take what it reported out of the journals too, of every ingestd that --server names, and "
                 "list what "
                 "was removed. Also for a client that was deleted before."},
        {.name = "wait",
         .value = "TIME",
         .fallback = "10m",
         .kind = TOB_OPTION_DURATION,
         .target = &e.wait_ms,
         .max = MAX_WAIT_MS,
         .help = "How long to wait for the end of --erase. It goes on without us."},
        TOB_CTL_ADMIN_OPTIONS(&e.session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("CLIENT_ID"),
        TOB_CTL_OPTIONS(options),
        .description =
            "The client's keys are refused from now on, its certificates are revoked, and it leaves the "
            "exposition. What it reported stays in the journal unless --erase is given. The id may be "
            "registered again.",
        .examples = "  tobogganctl client delete laptop-7 --erase",
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    if (status >= 0) {
        return status;
    }
    e.client_id = id;
    return e.erase ? erase_everywhere(&e, &command) : delete (&e, &command);
}
