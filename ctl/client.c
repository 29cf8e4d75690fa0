#include <inttypes.h>
#include <stdio.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_GRACE_MS (UINT64_C(90) * 86400000)

static const tob_ctl_text texts[] = {
    {"name", "NAME", "name", "What a person calls it: the label name.", "Default: the id."},
    {"type", "TYPE", "type", "docker, native or mobile: the label type.", "Default: native."},
    {"cluster", "ID", "cluster_id", "The cluster it belongs to.", "Default: none."},
    {"location", "TEXT", "location", "Where it is.", ""},
    {"public-key", "KEY", "public_key", "Of its tunnel; it is kept as it is.", ""},
};

const tob_ctl_kind tob_ctl_client_kind = {
    .id_field = "client_id",
    .variable = "CLIENT_ID",
    .row_field = "client",
    .texts = texts,
    .text_count = COUNT(texts),
    .add_method = TOB_CTL_SERVICE "AddClient",
    .add_request = &tobogganing__v1__add_client_request__descriptor,
    .add_response = &tobogganing__v1__add_client_response__descriptor,
    .update_method = TOB_CTL_SERVICE "UpdateClient",
    .update_request = &tobogganing__v1__update_client_request__descriptor,
    .row = &tobogganing__v1__client__descriptor,
    .place = true,
    .add_description =
        "Prints CLIENT_ID=… and API_KEY=…, for eval. The key is shown this once: only its hash is kept.",
    .add_examples =
        "  tobogganctl client add --id laptop-7 --type native\n"
        "  eval \"$(tobogganctl client add --type docker --location us-east --place)\"\n"
        "  tobogganctl client add --id laptop-7 --certificate --cert-out laptop-7.crt --key-out laptop-7.key",
};

static const tob_ctl_column columns[] = {
    {"CLIENT", "client_id"},
    {"NAME", "name"},
    {"TYPE", "type"},
    {"CLUSTER", "cluster_id"},
    {"LOCATION", "location"},
    {"KEY", "key_generation"},
    {"CREATED", "created_unix_ms"},
    {"REVOKED", "revoked_unix_ms"},
};

static const tob_ctl_list list = {
    .method = TOB_CTL_SERVICE "ListClients",
    .request_type = &tobogganing__v1__list_request__descriptor,
    .response_type = &tobogganing__v1__list_clients_response__descriptor,
    .columns = columns,
    .column_count = COUNT(columns),
};

static const tob_ctl_id_command get = {
    .argument = "CLIENT_ID",
    .method = TOB_CTL_SERVICE "GetClient",
    .request_type = &tobogganing__v1__client_id__descriptor,
    .response_type = &tobogganing__v1__client__descriptor,
    .credential = TOB_CTL_ADMIN,
};

static const tob_ctl_id_command revoke = {
    .argument = "CLIENT_ID",
    .method = TOB_CTL_SERVICE "RevokeClient",
    .request_type = &tobogganing__v1__client_id__descriptor,
    .response_type = &tobogganing__v1__client__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_revoked,
    .description =
        "Its keys are refused from now on, and its certificates are revoked. Its last values stay in the "
        "exposition until they expire; see client delete.",
};

static void print_previous_revoked(const char *id, const ProtobufCMessage *response) {
    const Tobogganing__V1__Client *client = (const Tobogganing__V1__Client *)response;
    printf("only the newest key of %s is good, its number %" PRIu32 "\n", id, client->key_generation);
}

static const tob_ctl_id_command revoke_previous = {
    .argument = "CLIENT_ID",
    .method = TOB_CTL_SERVICE "RevokePreviousKey",
    .request_type = &tobogganing__v1__client_id__descriptor,
    .response_type = &tobogganing__v1__client__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = print_previous_revoked,
    .description = "Ends the overlap that client rotate-key began.",
};

static int print_rotated(const tob_ctl_session *session, const ProtobufCMessage *answer) {
    const Tobogganing__V1__RotateClientKeyResponse *response =
        (const Tobogganing__V1__RotateClientKeyResponse *)answer;
    if (!session->json) {
        printf("CLIENT_ID=%s\nAPI_KEY=%s\n", response->client ? response->client->client_id : "",
               response->api_key);
        return tob_ctl_finish(0);
    }
    json_t *client = response->client ? tob_ctl_json(&response->client->base) : json_object();
    if (json_object_set_new(client, "api_key", json_string(response->api_key))) {
        json_decref(client);
        client = NULL;
    }
    return tob_ctl_print_json(client);
}

static int rotate_key(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    uint64_t grace_ms = 0;
    const tob_option options[] = {
        {.name = "grace",
         .value = "TIME",
         .fallback = "24h",
         .kind = TOB_OPTION_DURATION,
         .target = &grace_ms,
         .max = MAX_GRACE_MS,
         .help = "How long the key before is good too, to the second; 0: it is refused at once."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("CLIENT_ID"),
        TOB_CTL_OPTIONS(options),
        .description =
            "Prints CLIENT_ID=… and the new API_KEY=…, for eval. It is shown this once. A client has "
            "two keys at most: if a key before the present one is good still, that ends now.",
        .examples = "  tobogganctl client rotate-key laptop-7 --grace 7d",
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__RotateClientKeyRequest request = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    request.client_id = id;
    request.grace_s = (grace_ms + 999) / 1000;
    return tob_ctl_ask_and_print(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "RotateClientKey",
                                 &request.base, &tobogganing__v1__rotate_client_key_response__descriptor,
                                 print_rotated);
}

static const tob_ctl_command commands[] = {
    {"client add", tob_ctl_run_add, "register a client and print its API key", &tob_ctl_client_kind},
    {"client get", tob_ctl_run_id, "print what is registered of a client", &get},
    {"client list", tob_ctl_run_list, "list the registered clients", &list},
    {"client update", tob_ctl_run_update, "change a client's name, type, cluster …", &tob_ctl_client_kind},
    {"client rotate-key", rotate_key, "make a new API key; the one before stays good for a while", NULL},
    {"client revoke-previous-key", tob_ctl_run_id, "refuse a client's previous API key now",
     &revoke_previous},
    {"client revoke", tob_ctl_run_id, "refuse a client's API keys from now on", &revoke},
    {"client delete", tob_ctl_client_delete, "delete a client and its last values, or all it ever reported",
     NULL},
    {"client import", tob_ctl_client_import, "register many clients out of a CSV file, all or none", NULL},
    {"client export", tob_ctl_client_export, "print the clients as CSV that import takes", NULL},
};
const tob_ctl_commands tob_ctl_client_commands = {commands, COUNT(commands)};
