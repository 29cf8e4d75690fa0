#include "ctl/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/output.h"

// A request with its only field set. NULL without memory; free with free.
static ProtobufCMessage *id_request(const ProtobufCMessageDescriptor *type, char *id) {
    assert(type->n_fields == 1 && type->fields[0].type == PROTOBUF_C_TYPE_STRING);
    ProtobufCMessage *request = malloc(type->sizeof_message);
    if (!request) {
        fprintf(stderr, TOB_CTL_PROGRAM ": out of memory\n");
        return NULL;
    }
    protobuf_c_message_init(type, request);
    memcpy((char *)request + type->fields[0].offset, &id, sizeof(id));
    return request;
}

static int run_on_id(const tob_ctl_id_command *c, const tob_command *command, tob_ctl_session *session,
                     char *id) {
    ProtobufCMessage *request = id_request(c->request_type, id), *response = NULL;
    int status = request ? tob_ctl_ask(session, command, c->credential, c->method, request, c->response_type,
                                       TOB_OK, &response)
                         : 1;
    if (status == 0 && session->json) {
        status = tob_ctl_print_json(tob_ctl_json(c->response_type->n_fields ? response : request));
    } else if (status == 0) {
        c->print(id, response);
        status = tob_ctl_finish(0);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    free(request);
    return status;
}

int tob_ctl_run_id_command(const tob_ctl_id_command *c, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const tob_option admin_options[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    const tob_option cluster_options[] = {TOB_CTL_CLUSTER_OPTIONS(&session)};
    const tob_command command = {
        .program = TOB_CTL_PROGRAM,
        .name = c->name,
        .summary = c->summary,
        .arguments = c->argument,
        .description = c->description,
        .options = c->credential == TOB_CTL_ADMIN ? admin_options : cluster_options,
        .option_count = sizeof(admin_options) / sizeof(admin_options[0]), // both have as many
        .min_args = 1,
        .max_args = 1,
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    return status >= 0 ? status : run_on_id(c, &command, &session, id);
}

void tob_ctl_print_deleted(const char *id, const ProtobufCMessage *response) {
    (void)response;
    printf("%s is deleted\n", id);
}

int tob_ctl_print_added(const tob_ctl_session *session, const ProtobufCMessage *response,
                        const char *variable, const char *id_field, const char *id) {
    if (session->json) {
        return tob_ctl_print_json(response ? tob_ctl_json(response) : json_pack("{s:s}", id_field, id));
    }
    printf("%s=%s\n", variable, id);
    return tob_ctl_finish(0);
}

char *tob_ctl_text(const char *given) {
    return (char *)(given ? given : "");
}
