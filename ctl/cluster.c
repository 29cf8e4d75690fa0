#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

int tob_ctl_cluster_add(int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const char *id = NULL, *name = NULL, *region = NULL, *datacenter = NULL, *url = NULL;
    bool if_missing = false;
    const tob_option options[] = {
        {.name = "id",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &id,
         .help = "Default: one is made."},
        {.name = "name",
         .value = "NAME",
         .kind = TOB_OPTION_STRING,
         .target = &name,
         .help = "Default: the id."},
        {.name = "region",
         .value = "REGION",
         .kind = TOB_OPTION_STRING,
         .target = &region,
         .help = "The label region of its headends."},
        {.name = "datacenter",
         .value = "DATACENTER",
         .kind = TOB_OPTION_STRING,
         .target = &datacenter,
         .help = "The label datacenter of its headends."},
        {.name = "headend-url",
         .value = "URL",
         .kind = TOB_OPTION_STRING,
         .target = &url,
         .help = "Where the cluster's clients connect."},
        {.name = "if-missing",
         .kind = TOB_OPTION_FLAG,
         .target = &if_missing,
         .help = "Succeed and change nothing when the id is taken. Needs --id."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        .program = TOB_CTL_PROGRAM,
        .name = "cluster add",
        .summary = "register a cluster",
        .examples = "  tobogganctl cluster add --id us-east-1 --region us-east --datacenter nyc1",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    if (if_missing && !id) {
        return tob_options_error(&command, "if-missing", "needs --id");
    }
    Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    request.cluster_id = tob_ctl_text(id);
    request.name = tob_ctl_text(name);
    request.region = tob_ctl_text(region);
    request.datacenter = tob_ctl_text(datacenter);
    request.headend_url = tob_ctl_text(url);
    ProtobufCMessage *response = NULL;
    status = tob_ctl_ask(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "AddCluster", &request.base,
                         &tobogganing__v1__cluster__descriptor, if_missing ? TOB_ALREADY_EXISTS : TOB_OK,
                         &response);
    if (status == 0) {
        const char *made = response ? ((Tobogganing__V1__Cluster *)response)->cluster_id : id;
        status = tob_ctl_print_added(&session, response, "CLUSTER_ID", "cluster_id", made);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

int tob_ctl_cluster_list(int argc, char **argv) {
    static const tob_ctl_column columns[] = {
        {"CLUSTER", "cluster_id"},      {"NAME", "name"},
        {"REGION", "region"},           {"DATACENTER", "datacenter"},
        {"HEADEND URL", "headend_url"}, {"CREATED", "created_unix_ms"},
    };
    return tob_ctl_list_command("cluster list", "list the registered clusters",
                                TOB_CTL_SERVICE "ListClusters",
                                &tobogganing__v1__list_clusters_response__descriptor, columns,
                                sizeof(columns) / sizeof(columns[0]), argc, argv);
}
