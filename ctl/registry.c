#include "ctl/registry.h"

#include <stdio.h>

#include "ctl/output.h"

int tob_ctl_change(tob_ctl_session *session, const tob_command *command, const char *method,
                   const ProtobufCMessage *request, const ProtobufCMessageDescriptor *response_type,
                   tob_error accept, ProtobufCMessage **ret) {
    int status = tob_ctl_open(session, command, true);
    if (status == 0) {
        status = tob_ctl_call(session, method, request, response_type, accept, ret);
    }
    tob_ctl_close(session);
    return status;
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
