// The keys that sign headends' tokens, and their public halves.
#include <stdio.h>

#include "tobogganing/v1/signing_keys.pb-c.h"

#include "ctl/registry.h"

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define SERVICE        "/tobogganing.v1.SigningKeys/"
#define MAX_OVERLAP_MS (UINT64_C(10) * 365 * 86400000)

static int print_rotated(const tob_ctl_session *session, const ProtobufCMessage *response) {
    if (session->json) {
        return tob_ctl_print_json(tob_ctl_json(response));
    }
    printf("%s signs from now on\n", ((const Tobogganing__V1__SigningKey *)response)->kid);
    return tob_ctl_finish(0);
}

static int rotate(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    uint64_t overlap_ms = 0;
    const tob_option options[] = {
        {.name = "overlap",
         .value = "TIME",
         .fallback = "30d",
         .kind = TOB_OPTION_DURATION,
         .target = &overlap_ms,
         .min = 1000,
         .max = MAX_OVERLAP_MS,
         .help = "How long tokens of the keys before are good still. signing-key revoke ends it at once."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .examples = "  tobogganctl signing-key rotate --overlap 7d",
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__RotateSigningKeyRequest request = TOBOGGANING__V1__ROTATE_SIGNING_KEY_REQUEST__INIT;
    request.overlap_s = overlap_ms / 1000;
    return tob_ctl_ask_and_print(&session, &command, TOB_CTL_ADMIN, SERVICE "Rotate", &request.base,
                                 &tobogganing__v1__signing_key__descriptor, print_rotated);
}

static int print_keys(const tob_ctl_session *session, const ProtobufCMessage *response) {
    static const tob_ctl_column columns[] = {
        {"KEY", "kid"},
        {"CREATED", "created_unix_ms"},
        {"TOKENS GOOD UNTIL", "expires_unix_ms"},
        {"REVOKED", "revoked_unix_ms"},
    };
    tob_ctl_table table = {.columns = columns, .column_count = COUNT(columns)};
    json_t *all = tob_ctl_json(response), *keys = json_object_get(all, "keys");
    int status = keys ? 0 : tob_ctl_no_memory();
    if (status == 0 && session->json) {
        json_incref(keys);
        status = tob_ctl_print_json(keys);
    } else if (status == 0) {
        tob_ctl_print_page(&table, keys);
        status = tob_ctl_finish(0);
    }
    json_decref(all);
    return status;
}

static int print_jwks(const tob_ctl_session *session, const ProtobufCMessage *response) {
    (void)session; // it is JSON anyway
    printf("%s\n", ((const Tobogganing__V1__Jwks *)response)->json);
    return tob_ctl_finish(0);
}

static int list(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const tob_option options[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    const tob_command command = {TOB_CTL_COMMAND(self), TOB_CTL_OPTIONS(options)};
    Tobogganing__V1__ListSigningKeysRequest request = TOBOGGANING__V1__LIST_SIGNING_KEYS_REQUEST__INIT;
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0
               ? status
               : tob_ctl_ask_and_print(&session, &command, TOB_CTL_ADMIN, SERVICE "List", &request.base,
                                       &tobogganing__v1__list_signing_keys_response__descriptor, print_keys);
}

static int jwks(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const tob_option options[] = {TOB_CTL_SERVER_OPTIONS(&session)};
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description = "As GET /.well-known/jwks.json has them (RFC 7517). Needs no credential.",
    };
    Tobogganing__V1__GetJwksRequest request = TOBOGGANING__V1__GET_JWKS_REQUEST__INIT;
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status
                       : tob_ctl_ask_and_print(&session, &command, TOB_CTL_NONE, SERVICE "GetJwks",
                                               &request.base, &tobogganing__v1__jwks__descriptor, print_jwks);
}

static const tob_ctl_id_command revoke = {
    .argument = "KID",
    .method = SERVICE "Revoke",
    .request_type = &tobogganing__v1__signing_key_id__descriptor,
    .response_type = &tobogganing__v1__signing_key__descriptor,
    .credential = TOB_CTL_ADMIN,
    .print = tob_ctl_print_revoked,
    .description =
        "Tokens that it signed are refused from now on. The key that signs can't be revoked: rotate first.",
};

static const tob_ctl_command commands[] = {
    {"signing-key rotate", rotate, "sign headends' tokens with a new key", NULL},
    {"signing-key list", list, "list the keys that sign headends' tokens", NULL},
    {"signing-key revoke", tob_ctl_run_id, "refuse the tokens that a key signed", &revoke},
    {"jwks", jwks, "print the public keys that check headends' tokens", NULL},
};
const tob_ctl_commands tob_ctl_signing_key_commands = {commands, COUNT(commands)};
