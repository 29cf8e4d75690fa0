// The named readers of the journal. They are the bus's: these commands need the cluster token.
#include <stdio.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ctl/output.h"
#include "ctl/registry.h"

#define SERVICE "/tobogganing.v1.Bus/"

// One object of the list, with the fields that the table shows.
static json_t *row_json(const Tobogganing__V1__Consumer *consumer) {
    const Tobogganing__V1__Position *position = consumer->position;
    char holder[20] = "";
    if (consumer->holder) {
        snprintf(holder, sizeof(holder), "%016llx", (unsigned long long)consumer->holder);
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:I}", "name", consumer->name, "segment",
                     (json_int_t)(position ? position->segment : 0), "offset",
                     (json_int_t)(position ? position->offset : 0), "lag_bytes",
                     (json_int_t)consumer->lag_bytes, "holder", holder, "lease_ms",
                     (json_int_t)consumer->lease_ms);
}

static int print_list(const tob_ctl_session *session, const ProtobufCMessage *answer) {
    const Tobogganing__V1__ListConsumersResponse *response =
        (const Tobogganing__V1__ListConsumersResponse *)answer;
    static const tob_ctl_column columns[] = {
        {"CONSUMER", "name"},           {"SEGMENT", "segment"}, {"OFFSET", "offset"},
        {"BEHIND, BYTES", "lag_bytes"}, {"HOLDER", "holder"},   {"LEASE, MS", "lease_ms"},
    };
    tob_ctl_table table = {.columns = columns, .column_count = sizeof(columns) / sizeof(columns[0])};
    if (session->json) {
        return tob_ctl_print_json(tob_ctl_json(answer));
    }
    json_t *rows = json_array();
    for (size_t i = 0; rows && i < response->n_consumers; i++) {
        if (json_array_append_new(rows, row_json(response->consumers[i]))) {
            json_decref(rows);
            rows = NULL;
        }
    }
    if (!rows) {
        return tob_ctl_no_memory();
    }
    tob_ctl_print_page(&table, rows);
    json_decref(rows);
    return tob_ctl_finish(0);
}

static int list(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const tob_option options[] = {TOB_CTL_CLUSTER_OPTIONS(&session)};
    const tob_command command = {TOB_CTL_COMMAND(self), TOB_CTL_OPTIONS(options)};
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__ListConsumersRequest request = TOBOGGANING__V1__LIST_CONSUMERS_REQUEST__INIT;
    return tob_ctl_ask_and_print(&session, &command, TOB_CTL_CLUSTER, SERVICE "ListConsumers", &request.base,
                                 &tobogganing__v1__list_consumers_response__descriptor, print_list);
}

static void print_forgotten(const char *name, const ProtobufCMessage *response) {
    (void)response;
    printf("%s is forgotten\n", name);
}

static const tob_ctl_id_command forget = {
    .argument = "CONSUMER",
    .method = SERVICE "ForgetConsumer",
    .request_type = &tobogganing__v1__forget_consumer_request__descriptor,
    .response_type = &tobogganing__v1__forget_consumer_response__descriptor,
    .credential = TOB_CTL_CLUSTER,
    .print = print_forgotten,
    .description = "Should it come back, it begins with the oldest record.",
};

static const tob_ctl_command commands[] = {
    {"consumer list", list, "list the readers of the journal and how far they are", NULL},
    {"consumer forget", tob_ctl_run_id, "forget a reader's position", &forget},
};
const tob_ctl_commands tob_ctl_consumer_commands = {commands, sizeof(commands) / sizeof(commands[0])};
