// "… update": what is given is changed, and named in the request's update_mask.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/registry.h"

static void set_mask(ProtobufCMessage *request, char **names, size_t count) {
    const ProtobufCFieldDescriptor *mask = tob_ctl_field(request->descriptor, "update_mask");
    memcpy((char *)request + mask->offset, &names, sizeof(names));
    memcpy((char *)request + mask->quantifier_offset, &count, sizeof(count));
}

static int ask(const tob_ctl_kind *kind, const tob_command *command, tob_ctl_session *session, const char *id,
               const char *const texts[]) {
    char *names[TOB_CTL_MAX_TEXTS];
    size_t count = 0;
    ProtobufCMessage *request = tob_ctl_new_request(kind->update_request), *response = NULL;
    json_t *json = NULL;
    int status = 1;
    if (!request) {
        goto out;
    }
    tob_ctl_set_text(request, kind->id_field, id);
    for (size_t i = 0; i < kind->text_count; i++) {
        if (texts[i]) {
            tob_ctl_set_text(request, kind->texts[i].field, texts[i]);
            names[count++] = (char *)kind->texts[i].field;
        }
    }
    if (count == 0) {
        status = tob_options_error(command, "", "nothing to change is given; see --help");
        goto out;
    }
    set_mask(request, names, count);
    status = tob_ctl_ask(session, command, TOB_CTL_ADMIN, kind->update_method, request, kind->row, TOB_OK,
                         &response);
    if (status) {
        goto out;
    }
    json = tob_ctl_json(response);
    if (session->json || !json) {
        status = tob_ctl_print_json(json);
        json = NULL;
    } else {
        tob_ctl_print_object(json);
        status = tob_ctl_finish(0);
    }
out:
    json_decref(json);
    protobuf_c_message_free_unpacked(response, NULL);
    free(request);
    return status;
}

int tob_ctl_run_update(const tob_ctl_command *self, int argc, char **argv) {
    const tob_ctl_kind *kind = self->spec;
    tob_ctl_session session = {.client = NULL};
    const char *texts[TOB_CTL_MAX_TEXTS] = {NULL};
    tob_ctl_options options = {.count = 0};
    const tob_option admin[] = {TOB_CTL_ADMIN_OPTIONS(&session)};
    for (size_t i = 0; i < kind->text_count; i++) {
        const tob_option option = {.name = kind->texts[i].option,
                                   .value = kind->texts[i].value,
                                   .kind = TOB_OPTION_STRING,
                                   .target = &texts[i],
                                   .help = kind->texts[i].help};
        tob_ctl_options_add(&options, &option, 1);
    }
    tob_ctl_options_add(&options, admin, sizeof(admin) / sizeof(admin[0]));
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT(kind->variable),
        .description = "Changes what is given and nothing else. An empty text (\"\") takes a value away.",
        .options = options.list,
        .option_count = options.count,
    };
    char *id = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &id);
    return status >= 0 ? status : ask(kind, &command, &session, id, texts);
}
