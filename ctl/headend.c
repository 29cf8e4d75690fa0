#include <stdio.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

#define MAX_TTL_MS (UINT64_C(10) * 365 * 86400000)

int tob_ctl_headend_add(int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const char *id = NULL, *name = NULL, *cluster = NULL;
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
        {.name = "cluster",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &cluster,
         .help = "The cluster it belongs to, which gives it region and datacenter. Default: none."},
        {.name = "if-missing",
         .kind = TOB_OPTION_FLAG,
         .target = &if_missing,
         .help = "Succeed and change nothing when the id is taken. Needs --id."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        .program = TOB_CTL_PROGRAM,
        .name = "headend add",
        .summary = "register a headend",
        .examples = "  tobogganctl headend add --id gw-1 --cluster us-east-1",
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
    Tobogganing__V1__AddHeadendRequest request = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    request.headend_id = tob_ctl_text(id);
    request.name = tob_ctl_text(name);
    request.cluster_id = tob_ctl_text(cluster);
    ProtobufCMessage *response = NULL;
    status = tob_ctl_ask(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "AddHeadend", &request.base,
                         &tobogganing__v1__headend__descriptor, if_missing ? TOB_ALREADY_EXISTS : TOB_OK,
                         &response);
    if (status == 0) {
        const char *made = response ? ((Tobogganing__V1__Headend *)response)->headend_id : id;
        status = tob_ctl_print_added(&session, response, "HEADEND_ID", "headend_id", made);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

int tob_ctl_headend_list(int argc, char **argv) {
    static const tob_ctl_column columns[] = {
        {"HEADEND", "headend_id"},
        {"NAME", "name"},
        {"CLUSTER", "cluster_id"},
        {"CREATED", "created_unix_ms"},
    };
    return tob_ctl_list_command("headend list", "list the registered headends",
                                TOB_CTL_SERVICE "ListHeadends",
                                &tobogganing__v1__list_headends_response__descriptor, columns,
                                sizeof(columns) / sizeof(columns[0]), argc, argv);
}

int tob_ctl_headend_token(int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    uint64_t ttl_ms = 0;
    const tob_option options[] = {
        {.name = "ttl",
         .value = "TIME",
         .fallback = "720h",
         .kind = TOB_OPTION_DURATION,
         .target = &ttl_ms,
         .min = 1000,
         .max = MAX_TTL_MS,
         .help = "How long the token is good for, to the second."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        .program = TOB_CTL_PROGRAM,
        .name = "headend token",
        .summary = "print a token for a headend",
        .arguments = "HEADEND_ID",
        .description =
            "Prints a signed token (JWT) and nothing else. It can't be called back before it expires.",
        .examples = "  HEADEND_TOKEN=$(tobogganctl headend token gw-1 --ttl 24h)",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .min_args = 1,
        .max_args = 1,
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__IssueHeadendTokenRequest request = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    request.headend_id = id;
    request.ttl_s = ttl_ms / 1000;
    ProtobufCMessage *response = NULL;
    status =
        tob_ctl_ask(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "IssueHeadendToken", &request.base,
                    &tobogganing__v1__issue_headend_token_response__descriptor, TOB_OK, &response);
    if (status == 0 && session.json) {
        status = tob_ctl_print_json(tob_ctl_json(response));
    } else if (status == 0) {
        printf("%s\n", ((const Tobogganing__V1__IssueHeadendTokenResponse *)response)->token);
        status = tob_ctl_finish(0);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

int tob_ctl_headend_delete(int argc, char **argv) {
    static const tob_ctl_id_command deletion = {
        .name = "headend delete",
        .argument = "HEADEND_ID",
        .summary = "delete a headend and its last values",
        .description =
            "The headend's tokens are refused from now on, and it leaves the exposition. What it reported "
            "stays in the journal. The id may be registered again: tokens that have not expired are "
            "good for it then.",
        .method = TOB_CTL_SERVICE "DeleteHeadend",
        .credential = TOB_CTL_ADMIN,
        .request_type = &tobogganing__v1__delete_headend_request__descriptor,
        .response_type = &tobogganing__v1__delete_headend_response__descriptor,
        .print = tob_ctl_print_deleted,
    };
    return tob_ctl_run_id_command(&deletion, argc, argv);
}
