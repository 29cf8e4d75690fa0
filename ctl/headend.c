#include <stdio.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_TTL_MS   (UINT64_C(10) * 365 * 86400000)

static const tob_ctl_text texts[] = {
    {"name", "NAME", "name", "What a person calls it: the label name.", "Default: the id."},
    {"cluster", "ID", "cluster_id", "The cluster it belongs to, which gives it region and datacenter.",
     "Default: none."},
};

const tob_ctl_kind tob_ctl_headend_kind = {
    .id_field = "headend_id",
    .variable = "HEADEND_ID",
    .row_field = "headend",
    .texts = texts,
    .text_count = COUNT(texts),
    .add_method = TOB_CTL_SERVICE "AddHeadend",
    .add_request = &tobogganing__v1__add_headend_request__descriptor,
    .add_response = &tobogganing__v1__add_headend_response__descriptor,
    .update_method = TOB_CTL_SERVICE "UpdateHeadend",
    .update_request = &tobogganing__v1__update_headend_request__descriptor,
    .row = &tobogganing__v1__headend__descriptor,
    .if_missing = true,
    .add_examples = "  tobogganctl headend add --id gw-1 --cluster us-east-1",
};

static const tob_ctl_column columns[] = {
    {"HEADEND", "headend_id"},      {"NAME", "name"},
    {"CLUSTER", "cluster_id"},      {"CREATED", "created_unix_ms"},
    {"REVOKED", "revoked_unix_ms"}, {"TOKENS NOT BEFORE", "tokens_not_before_unix_s"},
};

static const tob_ctl_list list = {
    .method = TOB_CTL_SERVICE "ListHeadends",
    .request_type = &tobogganing__v1__list_request__descriptor,
    .response_type = &tobogganing__v1__list_headends_response__descriptor,
    .columns = columns,
    .column_count = COUNT(columns),
};

static const tob_ctl_id_command get = {
    .argument = "HEADEND_ID",
    .method = TOB_CTL_SERVICE "GetHeadend",
    .request_type = &tobogganing__v1__headend_id__descriptor,
    .response_type = &tobogganing__v1__headend__descriptor,
    .credential = TOB_CTL_ADMIN,
};

static const tob_ctl_id_command revoke = {
    .argument = "HEADEND_ID",
    .method = TOB_CTL_SERVICE "RevokeHeadend",
    .request_type = &tobogganing__v1__headend_id__descriptor,
    .response_type = &tobogganing__v1__headend__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_revoked,
    .description =
        "Its tokens are refused from now on, no new ones are issued, and its certificates are revoked.",
};

static void print_tokens_revoked(const char *id, const ProtobufCMessage *response) {
    (void)response;
    printf("all tokens of %s that were issued so far are refused\n", id);
}

static const tob_ctl_id_command revoke_tokens = {
    .argument = "HEADEND_ID",
    .method = TOB_CTL_SERVICE "RevokeHeadendTokens",
    .request_type = &tobogganing__v1__headend_id__descriptor,
    .response_type = &tobogganing__v1__headend__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = print_tokens_revoked,
    .description = "Tokens that are issued from now on are good.",
};

static const tob_ctl_id_command deletion = {
    .argument = "HEADEND_ID",
    .method = TOB_CTL_SERVICE "DeleteHeadend",
    .request_type = &tobogganing__v1__headend_id__descriptor,
    .response_type = &tobogganing__v1__delete_response__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_deleted,
    .description =
        "The headend's tokens are refused from now on, and it leaves the exposition. What it reported stays "
        "in the journal. The id may be registered again.",
};

static int print_token(const tob_ctl_session *session, const ProtobufCMessage *response) {
    if (session->json) {
        return tob_ctl_print_json(tob_ctl_json(response));
    }
    printf("%s\n", ((const Tobogganing__V1__IssueHeadendTokenResponse *)response)->token);
    return tob_ctl_finish(0);
}

static int token(const tob_ctl_command *self, int argc, char **argv) {
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
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("HEADEND_ID"),
        TOB_CTL_OPTIONS(options),
        .description =
            "Prints a signed token (JWT) and nothing else; with --json also when it ends (expires_unix_s) "
            "and "
            "the key that signed it (kid). headend revoke-tokens calls all tokens of a headend back.",
        .examples = "  HEADEND_TOKEN=$(tobogganctl headend token gw-1 --ttl 24h)",
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__IssueHeadendTokenRequest request = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    request.headend_id = id;
    request.ttl_s = ttl_ms / 1000;
    return tob_ctl_ask_and_print(&session, &command, TOB_CTL_ADMIN, TOB_CTL_SERVICE "IssueHeadendToken",
                                 &request.base, &tobogganing__v1__issue_headend_token_response__descriptor,
                                 print_token);
}

static const tob_ctl_command commands[] = {
    {"headend add", tob_ctl_run_add, "register a headend", &tob_ctl_headend_kind},
    {"headend get", tob_ctl_run_id, "print what is registered of a headend", &get},
    {"headend list", tob_ctl_run_list, "list the registered headends", &list},
    {"headend update", tob_ctl_run_update, "change a headend's name or cluster", &tob_ctl_headend_kind},
    {"headend token", token, "print a token for a headend", NULL},
    {"headend revoke-tokens", tob_ctl_run_id, "refuse all tokens of a headend issued so far", &revoke_tokens},
    {"headend revoke", tob_ctl_run_id, "refuse a headend's tokens from now on", &revoke},
    {"headend delete", tob_ctl_run_id, "delete a headend and its last values", &deletion},
};
const tob_ctl_commands tob_ctl_headend_commands = {commands, COUNT(commands)};
