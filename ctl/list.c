#include "ctl/list.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/registry.h"

// One object a line, so that the array is as good for grep as for a parser.
void tob_ctl_print_json_rows(const json_t *objects, bool first) {
    size_t row = 0;
    const json_t *object = NULL;
    json_array_foreach(objects, row, object) {
        printf(first && row == 0 ? "\n  " : ",\n  ");
        json_dumpf(object, stdout, JSON_COMPACT);
    }
}

static char *next_page(const ProtobufCMessage *response) {
    const char *page =
        *(char *const *)(const void *)((const char *)response + response->descriptor->fields[1].offset);
    return page && *page ? strdup(page) : NULL;
}

int tob_ctl_each_page(tob_ctl_session *session, const char *method, ProtobufCMessage *request,
                      const ProtobufCMessageDescriptor *response_type, tob_ctl_page_fn fn, void *user) {
    assert(response_type->n_fields == 2 && response_type->fields[1].type == PROTOBUF_C_TYPE_STRING);
    char *page = NULL;
    int status = 0;
    do {
        ProtobufCMessage *response = NULL;
        tob_ctl_set_text(request, "page", tob_ctl_given(page));
        status = tob_ctl_call(session, method, request, response_type, TOB_OK, &response);
        free(page);
        page = NULL;
        if (status == 0) {
            status = fn(user, response);
            page = next_page(response);
            protobuf_c_message_free_unpacked(response, NULL);
        }
    } while (status == 0 && page);
    free(page);
    return status == TOB_CTL_ENOUGH ? 0 : status;
}

typedef struct printer {
    bool json;
    bool begun;
    tob_ctl_table table;
} printer;

static int print_page(void *user, const ProtobufCMessage *response) {
    printer *p = user;
    json_t *page = tob_ctl_json(response);
    const json_t *objects = json_object_get(page, response->descriptor->fields[0].name);
    if (!objects) {
        json_decref(page);
        return tob_ctl_no_memory();
    }
    if (p->json) {
        printf(p->begun ? "" : "[");
        tob_ctl_print_json_rows(objects, !p->begun);
    } else {
        tob_ctl_print_page(&p->table, objects);
    }
    p->begun = true;
    json_decref(page);
    return tob_ctl_finish(0);
}

static int list(const tob_ctl_list *l, const tob_command *command, tob_ctl_session *session,
                const char *filter) {
    printer p = {.json = session->json, .table = {.columns = l->columns, .column_count = l->column_count}};
    ProtobufCMessage *request = tob_ctl_new_request(l->request_type);
    int status = request ? tob_ctl_open(session, command, TOB_CTL_ADMIN) : 1;
    if (status == 0) {
        if (l->filter) {
            tob_ctl_set_text(request, l->filter, filter);
        }
        status = tob_ctl_each_page(session, l->method, request, l->response_type, print_page, &p);
    }
    if (session->json && status == 0) {
        printf("\n]\n");
    }
    tob_ctl_close(session);
    free(request);
    return tob_ctl_finish(status);
}

int tob_ctl_run_list(const tob_ctl_command *self, int argc, char **argv) {
    const tob_ctl_list *l = self->spec;
    tob_ctl_session session = {.client = NULL};
    const char *filter = NULL;
    tob_ctl_options options = {.count = 0};
    const tob_option admin[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    const tob_option filter_option = {.name = l->filter,
                                      .value = "TEXT",
                                      .kind = TOB_OPTION_STRING,
                                      .target = &filter,
                                      .help = l->filter_help};
    assert(l->column_count <= TOB_CTL_MAX_COLUMNS);
    tob_ctl_options_add(&options, &filter_option, l->filter ? 1 : 0);
    tob_ctl_options_add(&options, admin, sizeof(admin) / sizeof(admin[0]));
    const tob_command command = {TOB_CTL_COMMAND(self), .options = options.list,
                                 .option_count = options.count};
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status : list(l, &command, &session, filter);
}
