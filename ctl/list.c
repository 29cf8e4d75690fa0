#include "ctl/list.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

// One object a line, so that the array is as good for grep as for a parser.
static void print_json_rows(const json_t *objects, bool first) {
    size_t row = 0;
    const json_t *object = NULL;
    json_array_foreach(objects, row, object) {
        printf(first && row == 0 ? "\n  " : ",\n  ");
        json_dumpf(object, stdout, JSON_COMPACT);
    }
}

static int print_page(tob_ctl_session *session, const ProtobufCMessage *response, tob_ctl_table *table,
                      bool first) {
    json_t *page = tob_ctl_json(response);
    const json_t *objects = json_object_get(page, response->descriptor->fields[0].name);
    if (!objects) {
        json_decref(page);
        fprintf(stderr, TOB_CTL_PROGRAM ": out of memory\n");
        return 1;
    }
    if (session->json) {
        print_json_rows(objects, first);
    } else {
        tob_ctl_print_page(table, objects);
    }
    json_decref(page);
    return tob_ctl_finish(0);
}

int tob_ctl_list(tob_ctl_session *session, const char *method,
                 const ProtobufCMessageDescriptor *response_type, const tob_ctl_column *columns,
                 size_t column_count) {
    assert(response_type->n_fields == 2 && response_type->fields[1].type == PROTOBUF_C_TYPE_STRING);
    assert(column_count <= TOB_CTL_MAX_COLUMNS);
    tob_ctl_table table = {.columns = columns, .column_count = column_count};
    char *next = strdup("");
    int status = next ? 0 : 1;
    bool first = true;
    if (session->json) {
        printf("[");
    }
    while (next && status == 0) {
        Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
        ProtobufCMessage *response = NULL;
        request.page = next;
        status = tob_ctl_call(session, method, &request.base, response_type, TOB_OK, &response);
        free(next);
        next = NULL;
        if (status == 0) {
            const char *page = *(char *const *)((const char *)response + response_type->fields[1].offset);
            status = print_page(session, response, &table, first);
            next = page && *page ? strdup(page) : NULL;
            first = false;
            protobuf_c_message_free_unpacked(response, NULL);
        }
    }
    free(next);
    if (session->json && status == 0) {
        printf("\n]\n");
    }
    return tob_ctl_finish(status);
}

int tob_ctl_list_command(const char *name, const char *summary, const char *method,
                         const ProtobufCMessageDescriptor *response_type, const tob_ctl_column *columns,
                         size_t column_count, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const tob_option options[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    const tob_command command = {.program = TOB_CTL_PROGRAM,
                                 .name = name,
                                 .summary = summary,
                                 .options = options,
                                 .option_count = sizeof(options) / sizeof(options[0])};
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    status = tob_ctl_open(&session, &command, TOB_CTL_ADMIN);
    if (status == 0) {
        status = tob_ctl_list(&session, method, response_type, columns, column_count);
    }
    tob_ctl_close(&session);
    return status;
}
