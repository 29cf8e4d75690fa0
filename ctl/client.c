#include <stdio.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

static int print_client(const tob_ctl_session *session, const Tobogganing__V1__AddClientResponse *response) {
    const char *id = response->client ? response->client->client_id : "";
    if (!session->json) {
        printf("CLIENT_ID=%s\nAPI_KEY=%s\n", id, response->api_key);
        return tob_ctl_finish(0);
    }
    json_t *object = response->client ? tob_ctl_json(&response->client->base) : json_object();
    if (json_object_set_new(object, "api_key", json_string(response->api_key))) {
        json_decref(object);
        object = NULL;
    }
    return tob_ctl_print_json(object);
}

int tob_ctl_client_add(int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const char *id = NULL, *name = NULL, *type = NULL, *cluster = NULL;
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
        {.name = "type",
         .value = "TYPE",
         .kind = TOB_OPTION_STRING,
         .target = &type,
         .help = "docker, native or mobile. Default: native."},
        {.name = "cluster",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &cluster,
         .help = "The cluster it belongs to. Default: none."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        .program = TOB_CTL_PROGRAM,
        .name = "client add",
        .summary = "register a client and print its API key",
        .description =
            "Prints CLIENT_ID=… and API_KEY=…, for eval. The key is shown this once: only its hash is kept.",
        .examples = "  tobogganctl client add --id laptop-7 --type native\n"
                    "  eval \"$(tobogganctl client add --type docker)\"",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    request.client_id = tob_ctl_text(id);
    request.name = tob_ctl_text(name);
    request.type = tob_ctl_text(type);
    request.cluster_id = tob_ctl_text(cluster);
    ProtobufCMessage *response = NULL;
    status = tob_ctl_ask(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "AddClient", &request.base,
                         &tobogganing__v1__add_client_response__descriptor, TOB_OK, &response);
    if (status == 0) {
        status = print_client(&session, (const Tobogganing__V1__AddClientResponse *)response);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

int tob_ctl_client_list(int argc, char **argv) {
    static const tob_ctl_column columns[] = {
        {"CLIENT", "client_id"},
        {"NAME", "name"},
        {"TYPE", "type"},
        {"CLUSTER", "cluster_id"},
        {"CREATED", "created_unix_ms"},
        {"REVOKED", "revoked_unix_ms"},
    };
    return tob_ctl_list_command("client list", "list the registered clients", TOB_CTL_SERVICE "ListClients",
                                &tobogganing__v1__list_clients_response__descriptor, columns,
                                sizeof(columns) / sizeof(columns[0]), argc, argv);
}

static void print_revoked(const char *id, const ProtobufCMessage *response) {
    char at[TOB_CTL_TIME_BYTES];
    const Tobogganing__V1__Client *client = (const Tobogganing__V1__Client *)response;
    printf("%s is revoked since %s\n", id, tob_ctl_time(client->revoked_unix_ms, at));
}

int tob_ctl_client_revoke(int argc, char **argv) {
    static const tob_ctl_id_command revoke = {
        .name = "client revoke",
        .argument = "CLIENT_ID",
        .summary = "refuse a client's API key from now on",
        .description =
            "The client's last values stay in the exposition until they expire; see client delete.",
        .method = TOB_CTL_SERVICE "RevokeClient",
        .credential = TOB_CTL_ADMIN,
        .request_type = &tobogganing__v1__revoke_client_request__descriptor,
        .response_type = &tobogganing__v1__client__descriptor,
        .print = print_revoked,
    };
    return tob_ctl_run_id_command(&revoke, argc, argv);
}

int tob_ctl_client_delete(int argc, char **argv) {
    static const tob_ctl_id_command deletion = {
        .name = "client delete",
        .argument = "CLIENT_ID",
        .summary = "delete a client and its last values",
        .description =
            "The client's key is refused from now on, and it leaves the exposition. What it reported stays "
            "in the journal. The id may be registered again.",
        .method = TOB_CTL_SERVICE "DeleteClient",
        .credential = TOB_CTL_ADMIN,
        .request_type = &tobogganing__v1__delete_client_request__descriptor,
        .response_type = &tobogganing__v1__delete_client_response__descriptor,
        .print = tob_ctl_print_deleted,
    };
    return tob_ctl_run_id_command(&deletion, argc, argv);
}
