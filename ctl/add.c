// "… add" of clients, clusters and headends.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/issue.h"
#include "ctl/registry.h"

#define HELP_BYTES 160

// What was given.
typedef struct addition {
    const tob_ctl_kind *kind;
    tob_ctl_session session;
    const char *id;
    const char *texts[TOB_CTL_MAX_TEXTS];
    char help[TOB_CTL_MAX_TEXTS][HELP_BYTES];
    bool if_missing;
    bool place;
    bool certificate;
    tob_ctl_issue issue;
    tob_ctl_options options;
} addition;

static void add_own_options(addition *a) {
    const tob_option id = {.name = "id",
                           .value = "ID",
                           .kind = TOB_OPTION_STRING,
                           .target = &a->id,
                           .help = "Default: one is made."};
    const tob_option if_missing = {.name = "if-missing",
                                   .kind = TOB_OPTION_FLAG,
                                   .target = &a->if_missing,
                                   .help = "Succeed and change nothing when the id is taken. Needs --id."};
    const tob_option place = {.name = "place",
                              .kind = TOB_OPTION_FLAG,
                              .target = &a->place,
                              .help = "Without --cluster: choose an active cluster that has a headend URL, "
                                      "first of those in --location, and of these the one with the fewest "
                                      "clients. It is printed too."};
    tob_ctl_options_add(&a->options, &id, 1);
    for (size_t i = 0; i < a->kind->text_count; i++) {
        const tob_ctl_text *text = &a->kind->texts[i];
        const tob_option option = {.name = text->option,
                                   .value = text->value,
                                   .kind = TOB_OPTION_STRING,
                                   .target = &a->texts[i],
                                   .help = a->help[i]};
        snprintf(a->help[i], HELP_BYTES, "%s%s%s", text->help, *text->unset ? " " : "", text->unset);
        tob_ctl_options_add(&a->options, &option, 1);
    }
    tob_ctl_options_add(&a->options, &if_missing, a->kind->if_missing ? 1 : 0);
    tob_ctl_options_add(&a->options, &place, a->kind->place ? 1 : 0);
}

static void add_options(addition *a) {
    const tob_option certificate = {.name = "certificate",
                                    .kind = TOB_OPTION_FLAG,
                                    .target = &a->certificate,
                                    .help =
                                        "Issue a certificate for it too; the options after this are its."};
    const tob_option issue[] = {TOB_CTL_ISSUE_OPTIONS(&a->issue)};
    const tob_option admin[] = {TOB_CTL_ADMIN_OPTIONS(&a->session)};
    add_own_options(a);
    tob_ctl_options_add(&a->options, &certificate, 1);
    tob_ctl_options_add(&a->options, issue, sizeof(issue) / sizeof(issue[0]));
    tob_ctl_options_add(&a->options, admin, sizeof(admin) / sizeof(admin[0]));
}

static tob_ctl_stdout stdout_of(const addition *a) {
    return a->session.json ? TOB_CTL_STDOUT_JSON : TOB_CTL_STDOUT_SHELL;
}

static int check(addition *a, const tob_command *command) {
    if (a->if_missing && !a->id) {
        return tob_options_error(command, "if-missing", "needs --id");
    }
    if (a->if_missing && a->certificate) {
        return tob_options_error(command, "if-missing", "goes without --certificate");
    }
    if (!a->certificate && tob_ctl_issue_given(&a->issue)) {
        return tob_options_error(command, "certificate", "is needed for the options of a certificate");
    }
    return a->certificate ? tob_ctl_issue_begin(&a->issue, command, stdout_of(a)) : 0;
}

static ProtobufCMessage *request_of(addition *a) {
    ProtobufCMessage *request = tob_ctl_new_request(a->kind->add_request);
    if (!request) {
        return NULL;
    }
    tob_ctl_set_text(request, a->kind->id_field, a->id);
    for (size_t i = 0; i < a->kind->text_count; i++) {
        tob_ctl_set_text(request, a->kind->texts[i].field, a->texts[i]);
    }
    if (a->certificate) {
        Tobogganing__V1__CertificateOrder *order = &a->issue.order;
        memcpy((char *)request + tob_ctl_field(request->descriptor, "certificate")->offset, &order,
               sizeof(order));
    }
    if (a->kind->place) {
        ((Tobogganing__V1__AddClientRequest *)request)->place = a->place;
    }
    return request;
}

// A message field of an answer, or NULL.
static ProtobufCMessage *part(const ProtobufCMessage *response, const char *name) {
    ProtobufCMessage *message = NULL;
    const ProtobufCFieldDescriptor *field = tob_ctl_field(response->descriptor, name);
    memcpy(&message, (const char *)response + field->offset, sizeof(message));
    return message;
}

// The row, with what else the answer has beside its fields.
static json_t *json_of(const addition *a, const ProtobufCMessage *response) {
    json_t *all = tob_ctl_json(response), *row = json_object_get(all, a->kind->row_field);
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(all, name, value) {
        if (value != row && !json_is_null(value) && json_object_set(row, name, value)) {
            row = NULL;
            break;
        }
    }
    tob_ctl_issue_json(&a->issue, json_object_get(row, "certificate"));
    json_incref(row);
    json_decref(all);
    return row;
}

static void print_assignments(const addition *a, const ProtobufCMessage *response, const char *id) {
    printf("%s=%s\n", a->kind->variable, id);
    if (!response || a->kind->add_response != &tobogganing__v1__add_client_response__descriptor) {
        return;
    }
    const Tobogganing__V1__AddClientResponse *added = (const Tobogganing__V1__AddClientResponse *)response;
    printf("API_KEY=%s\n", added->api_key);
    if (a->place && added->cluster) {
        printf("CLUSTER_ID=%s\nHEADEND_URL=", added->cluster->cluster_id);
        tob_ctl_print_quoted(added->cluster->headend_url);
        putchar('\n');
    }
}

// response NULL: it existed before.
static int print_added(addition *a, const ProtobufCMessage *response) {
    const ProtobufCMessage *row = response ? part(response, a->kind->row_field) : NULL;
    const char *id = a->id;
    int status = 0;
    if (row) {
        memcpy(&id, (const char *)row + tob_ctl_field(row->descriptor, a->kind->id_field)->offset,
               sizeof(id));
    }
    if (response && a->certificate) {
        const ProtobufCMessage *issued = part(response, "certificate");
        status =
            tob_ctl_issue_write(&a->issue, (const Tobogganing__V1__IssuedCertificate *)issued, stdout_of(a));
    }
    if (!a->session.json) {
        print_assignments(a, response, tob_ctl_given(id));
        return tob_ctl_finish(status);
    }
    int printed = tob_ctl_print_json(row ? json_of(a, response) : json_pack("{s:s}", a->kind->id_field, id));
    return status ? status : printed;
}

static int add(addition *a, const tob_command *command) {
    ProtobufCMessage *request = NULL, *response = NULL;
    int status = check(a, command);
    if (status == 0) {
        request = request_of(a);
        status = request ? tob_ctl_ask(&a->session, command, TOB_CTL_ADMIN, a->kind->add_method, request,
                                       a->kind->add_response, a->if_missing ? TOB_ALREADY_EXISTS : TOB_OK,
                                       &response)
                         : 1;
    }
    if (status == 0) {
        status = print_added(a, response);
    }
    tob_ctl_free_secret(response);
    free(request);
    tob_ctl_issue_fini(&a->issue);
    return status;
}

int tob_ctl_run_add(const tob_ctl_command *self, int argc, char **argv) {
    addition *a = calloc(1, sizeof(*a));
    if (!a) {
        return tob_ctl_no_memory();
    }
    a->kind = self->spec;
    add_options(a);
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        .description = a->kind->add_description,
        .examples = a->kind->add_examples,
        .options = a->options.list,
        .option_count = a->options.count,
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status < 0) {
        status = add(a, &command);
    }
    free(a);
    return status;
}
