#include <stdio.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const tob_ctl_text texts[] = {
    {"name", "NAME", "name", "What a person calls it.", "Default: the id."},
    {"region", "REGION", "region", "The label region of its headends.", ""},
    {"datacenter", "DATACENTER", "datacenter", "The label datacenter of its headends.", ""},
    {"headend-url", "URL", "headend_url", "Where the cluster's clients connect.", ""},
};

const tob_ctl_kind tob_ctl_cluster_kind = {
    .id_field = "cluster_id",
    .variable = "CLUSTER_ID",
    .row_field = "cluster",
    .texts = texts,
    .text_count = COUNT(texts),
    .add_method = TOB_CTL_SERVICE "AddCluster",
    .add_request = &tobogganing__v1__add_cluster_request__descriptor,
    .add_response = &tobogganing__v1__add_cluster_response__descriptor,
    .update_method = TOB_CTL_SERVICE "UpdateCluster",
    .update_request = &tobogganing__v1__update_cluster_request__descriptor,
    .row = &tobogganing__v1__cluster__descriptor,
    .if_missing = true,
    .add_examples = "  tobogganctl cluster add --id us-east-1 --region us-east --datacenter nyc1",
};

static const tob_ctl_column columns[] = {
    {"CLUSTER", "cluster_id"},      {"NAME", "name"},
    {"REGION", "region"},           {"DATACENTER", "datacenter"},
    {"STATUS", "status"},           {"CLIENTS", "registered_clients"},
    {"HEADEND URL", "headend_url"}, {"CREATED", "created_unix_ms"},
};

static const tob_ctl_list list = {
    .method = TOB_CTL_SERVICE "ListClusters",
    .request_type = &tobogganing__v1__list_request__descriptor,
    .response_type = &tobogganing__v1__list_clusters_response__descriptor,
    .columns = columns,
    .column_count = COUNT(columns),
};

static const tob_ctl_id_command get = {
    .argument = "CLUSTER_ID",
    .method = TOB_CTL_SERVICE "GetCluster",
    .request_type = &tobogganing__v1__cluster_id__descriptor,
    .response_type = &tobogganing__v1__cluster__descriptor,
    .credential = TOB_CTL_ADMIN,
};

static const tob_ctl_id_command revoke = {
    .argument = "CLUSTER_ID",
    .method = TOB_CTL_SERVICE "RevokeCluster",
    .request_type = &tobogganing__v1__cluster_id__descriptor,
    .response_type = &tobogganing__v1__cluster__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_revoked,
    .description =
        "It gets no new clients from now on; its heartbeats and the tokens of its headends are refused, and "
        "its certificates are revoked. Its clients are not touched.",
};

static const tob_ctl_id_command deletion = {
    .argument = "CLUSTER_ID",
    .method = TOB_CTL_SERVICE "DeleteCluster",
    .request_type = &tobogganing__v1__cluster_id__descriptor,
    .response_type = &tobogganing__v1__delete_response__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_deleted,
    .description = "Clients and headends that belong to it must be moved or deleted before.",
};

static int print_cluster(const tob_ctl_session *session, const ProtobufCMessage *response) {
    char at[TOB_TIME_TEXT_BYTES];
    const Tobogganing__V1__Cluster *cluster = (const Tobogganing__V1__Cluster *)response;
    if (session->json) {
        return tob_ctl_print_json(tob_ctl_json(response));
    }
    printf("%s is %s, its last heartbeat came at %s\n", cluster->cluster_id, cluster->status,
           tob_ctl_time(cluster->heartbeat_unix_ms, at));
    return tob_ctl_finish(0);
}

static int heartbeat(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    uint64_t client_count = 0;
    const tob_option options[] = {
        {.name = "client-count",
         .value = "N",
         .fallback = "0",
         .kind = TOB_OPTION_NUMBER,
         .target = &client_count,
         .max = INT64_MAX,
         .help = "How many clients are connected to it."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("CLUSTER_ID"),
        TOB_CTL_OPTIONS(options),
        .description = "A cluster that sent one is shown as silent when none came for five minutes.",
        .examples = "  tobogganctl cluster heartbeat us-east-1 --client-count 150",
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__HeartbeatClusterRequest request = TOBOGGANING__V1__HEARTBEAT_CLUSTER_REQUEST__INIT;
    request.cluster_id = id;
    request.client_count = client_count;
    return tob_ctl_ask_and_print(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "HeartbeatCluster",
                                 &request.base, &tobogganing__v1__cluster__descriptor, print_cluster);
}

static const tob_ctl_command commands[] = {
    {"cluster add", tob_ctl_run_add, "register a cluster", &tob_ctl_cluster_kind},
    {"cluster get", tob_ctl_run_id, "print what is known of a cluster", &get},
    {"cluster list", tob_ctl_run_list, "list the registered clusters", &list},
    {"cluster update", tob_ctl_run_update, "change a cluster's name, region …", &tob_ctl_cluster_kind},
    {"cluster heartbeat", heartbeat, "say for a cluster that it lives", NULL},
    {"cluster revoke", tob_ctl_run_id, "give a cluster no new clients, and refuse its headends", &revoke},
    {"cluster delete", tob_ctl_run_id, "delete a cluster that nothing belongs to", &deletion},
};
const tob_ctl_commands tob_ctl_cluster_commands = {commands, COUNT(commands)};
