#include "ctl/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *tob_ctl_given(const char *text) {
    return (char *)(text ? text : "");
}

const ProtobufCFieldDescriptor *tob_ctl_field(const ProtobufCMessageDescriptor *type, const char *name) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(type, name);
    assert(field);
    return field;
}

void tob_ctl_set_text(ProtobufCMessage *request, const char *name, const char *text) {
    const ProtobufCFieldDescriptor *field = tob_ctl_field(request->descriptor, name);
    assert(field->type == PROTOBUF_C_TYPE_STRING);
    if (text) {
        memcpy((char *)request + field->offset, &text, sizeof(text));
    }
}

ProtobufCMessage *tob_ctl_new_request(const ProtobufCMessageDescriptor *type) {
    ProtobufCMessage *request = malloc(type->sizeof_message);
    if (request) {
        protobuf_c_message_init(type, request);
    } else {
        tob_ctl_no_memory();
    }
    return request;
}

void tob_ctl_options_add(tob_ctl_options *to, const tob_option *options, size_t count) {
    assert(to->count + count <= TOB_OPTIONS_MAX);
    memcpy(&to->list[to->count], options, count * sizeof(options[0]));
    to->count += count;
}

static int print_answer(const tob_ctl_id_command *c, const tob_ctl_session *session, const char *id,
                        const ProtobufCMessage *request, const ProtobufCMessage *response) {
    if (!session->json && c->print) {
        c->print(id, response);
        return tob_ctl_finish(0);
    }
    json_t *json = tob_ctl_json(c->response_type->n_fields ? response : request);
    if (session->json || !json) {
        return tob_ctl_print_json(json);
    }
    tob_ctl_print_object(json);
    json_decref(json);
    return tob_ctl_finish(0);
}

static int run_on_id(const tob_ctl_id_command *c, const tob_command *command, tob_ctl_session *session,
                     const char *id) {
    assert(c->request_type->n_fields == 1);
    ProtobufCMessage *request = tob_ctl_new_request(c->request_type), *response = NULL;
    int status = 1;
    if (request) {
        tob_ctl_set_text(request, c->request_type->fields[0].name, id);
        status = tob_ctl_ask(session, command, c->credential, c->method, request, c->response_type, TOB_OK,
                             &response);
    }
    if (status == 0) {
        status = print_answer(c, session, id, request, response);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    free(request);
    return status;
}

int tob_ctl_run_id(const tob_ctl_command *self, int argc, char **argv) {
    const tob_ctl_id_command *c = self->spec;
    tob_ctl_session session = {.client = NULL};
    const tob_option admin_options[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    const tob_option cluster_options[] = {TOB_CTL_CLUSTER_OPTIONS(&session)};
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT(c->argument),
        .description = c->description,
        .options = c->credential == TOB_CTL_ADMIN ? admin_options : cluster_options,
        .option_count = sizeof(admin_options) / sizeof(admin_options[0]), // both have as many
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    return status >= 0 ? status : run_on_id(c, &command, &session, id);
}

void tob_ctl_print_deleted(const char *id, const ProtobufCMessage *response) {
    (void)response;
    printf("%s is deleted\n", id);
}

void tob_ctl_print_revoked(const char *id, const ProtobufCMessage *response) {
    char at[TOB_TIME_TEXT_BYTES];
    uint64_t since = 0;
    const ProtobufCFieldDescriptor *field = tob_ctl_field(response->descriptor, "revoked_unix_ms");
    memcpy(&since, (const char *)response + field->offset, sizeof(since));
    printf("%s is revoked since %s\n", id, tob_ctl_time(since, at));
}
