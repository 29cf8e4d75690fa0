#include <inttypes.h>
#include <stdio.h>

#include "tobogganing/v1/health.pb-c.h"

#include "ctl/output.h"
#include "ctl/session.h"

#define SERVING TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING

typedef Tobogganing__V1__HealthCheckResponse health;

// Parses, connects and asks. Returns the exit status; *ret is owned by the caller.
static int check(const tob_ctl_command *self, int argc, char **argv, tob_ctl_session *session, health **ret) {
    const tob_option options[] = {TOB_CTL_SERVER_OPTIONS(session)};
    const tob_command command = {TOB_CTL_COMMAND(self), TOB_CTL_OPTIONS(options)};
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    status = tob_ctl_ask(session, &command, TOB_CTL_NONE, "/tobogganing.v1.Health/Check", &request.base,
                         &tobogganing__v1__health_check_response__descriptor, TOB_OK, &response);
    *ret = (health *)response;
    return status;
}

static void print_status_line(const health *h) {
    bool reason = h->status != SERVING && *h->reason;
    printf("%s%s%s\n", h->status == SERVING ? "serving" : "not serving", reason ? ": " : "",
           reason ? h->reason : "");
}

static int print_health(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    health *h = NULL;
    int status = check(self, argc, argv, &session, &h);
    if (h) {
        if (session.json) {
            status = tob_ctl_print_json(tob_ctl_json(&h->base));
        } else {
            print_status_line(h);
            status = tob_ctl_finish(0);
        }
        status = status == 0 && h->status != SERVING ? 1 : status;
        tobogganing__v1__health_check_response__free_unpacked(h, NULL);
    }
    return status;
}

static void print_place(const char *what, const Tobogganing__V1__Position *place) {
    if (place) {
        printf("  %-20s segment %" PRIu64 " offset %" PRIu64 "\n", what, place->segment, place->offset);
    } else {
        printf("  %-20s none\n", what);
    }
}

static void print_journal(const health *h) {
    char made[TOB_TIME_TEXT_BYTES];
    printf("Journal\n");
    print_place("oldest", h->journal_oldest);
    print_place("end", h->journal_end);
    printf("  bytes on disk        %" PRIu64 "\n", h->journal_bytes);
    print_place("checkpoint", h->checkpoint);
    if (h->checkpoint) {
        printf("    made               %s\n", tob_ctl_time(h->checkpoint_unix_ms, made));
        printf("    bytes              %" PRIu64 "\n", h->checkpoint_bytes);
        printf("    took, ms           %" PRIu64 "\n", h->checkpoint_took_ms);
        printf("    longest pause, us  %" PRIu64 "\n", h->checkpoint_longest_pause_us);
    }
}

static void print_all(const health *h, const char *server) {
    char started[TOB_TIME_TEXT_BYTES];
    printf("ingestd at %s: ", server);
    print_status_line(h);
    printf("  version              %s\n", h->version);
    printf("  started              %s\n", tob_ctl_time(h->started_unix_ms, started));
    printf("  instance             %016" PRIx64 "\n", h->instance);
    printf("  epoch                %016" PRIx64 "\n", h->epoch);
    printf("Registry\n");
    printf("  kind                 %s%s\n", *h->registry ? h->registry : "unknown",
           h->registry_away ? ", away: nothing can be changed" : "");
    printf("Registered\n");
    printf("  clusters             %" PRIu64 "\n", h->clusters);
    printf("  clients              %" PRIu64 "\n", h->clients);
    printf("  headends             %" PRIu64 "\n", h->headends);
    printf("Reporting\n");
    printf("  clients              %" PRIu64 "\n", h->reporting_clients);
    printf("  headends             %" PRIu64 "\n", h->reporting_headends);
    printf("Ever\n");
    printf("  stored batches       %" PRIu64 "\n", h->stored_batches);
    printf("  stored samples       %" PRIu64 "\n", h->stored_samples);
    printf("Since the start\n");
    printf("  repeated batches     %" PRIu64 "\n", h->repeated_batches);
    printf("  rejected series      %" PRIu64 "\n", h->rejected_series);
    printf("  refused calls        %" PRIu64 "\n", h->refused_calls);
    printf("  commits              %" PRIu64 "\n", h->commits);
    printf("Requests under way\n");
    printf("  memory, bytes        %" PRIu64 " of %" PRIu64 "\n", h->request_memory_bytes,
           h->request_memory_max_bytes);
    print_journal(h);
}

static int print_status(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    health *h = NULL;
    int status = check(self, argc, argv, &session, &h);
    if (h) {
        if (session.json) {
            status = tob_ctl_print_json(tob_ctl_json(&h->base));
        } else {
            print_all(h, session.server);
            status = tob_ctl_finish(0);
        }
        tobogganing__v1__health_check_response__free_unpacked(h, NULL);
    }
    return status;
}

static const tob_ctl_command commands[] = {
    {"health", print_health, "say whether ingestd serves; the exit status says it too", NULL},
    {"status", print_status, "print what ingestd tells about itself", NULL},
};
const tob_ctl_commands tob_ctl_health_commands = {commands, sizeof(commands) / sizeof(commands[0])};
