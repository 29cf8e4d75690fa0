// What the commands that call one method share: parse, connect, call, print.
#ifndef TOB_CTL_REGISTRY_H
#define TOB_CTL_REGISTRY_H

#include "ctl/session.h"

#define TOB_CTL_SERVICE "/tobogganing.v1.Registry/"

// tob_ctl_print_added prints what an add made: as JSON, or NAME=ID for eval. response NULL: it existed before
// (--if-missing).
int tob_ctl_print_added(const tob_ctl_session *session, const ProtobufCMessage *response,
                        const char *variable, const char *id_field, const char *id);

// A command with one argument, which is the only field of its request.
typedef struct tob_ctl_id_command {
    const char *name;        // "client revoke"
    const char *argument;    // "CLIENT_ID"
    const char *summary;     // one line
    const char *description; // or NULL
    const char *method;      // with its service
    tob_ctl_credential credential;
    const ProtobufCMessageDescriptor *request_type;
    const ProtobufCMessageDescriptor *response_type;
    void (*print)(const char *id, const ProtobufCMessage *response); // for people
} tob_ctl_id_command;

// tob_ctl_run_id_command: with --json it prints the answer, or the request where the answer has no fields.
int tob_ctl_run_id_command(const tob_ctl_id_command *command, int argc, char **argv);

// "ID is deleted": a `print` for those.
void tob_ctl_print_deleted(const char *id, const ProtobufCMessage *response);

// The value of a text option in a request: "" when not given. Protobuf-c wants it without const.
char *tob_ctl_text(const char *given);

#endif
