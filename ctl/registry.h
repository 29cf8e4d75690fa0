// What the commands that change the registry share: parse, connect, call, print.
#ifndef TOB_CTL_REGISTRY_H
#define TOB_CTL_REGISTRY_H

#include "ctl/session.h"

#define TOB_CTL_SERVICE "/tobogganing.v1.Registry/"

// tob_ctl_change connects as admin, calls one method, and hands back the answer.
//   ret   owned by the caller, protobuf_c_message_free_unpacked; NULL with status 0 when `accept` came
// Returns the exit status.
TOB_MUST_USE int tob_ctl_change(tob_ctl_session *session, const tob_command *command, const char *method,
                                const ProtobufCMessage *request,
                                const ProtobufCMessageDescriptor *response_type, tob_error accept,
                                ProtobufCMessage **ret);

// tob_ctl_print_added prints what an add made: as JSON, or NAME=ID for eval. response NULL: it existed before
// (--if-missing).
int tob_ctl_print_added(const tob_ctl_session *session, const ProtobufCMessage *response,
                        const char *variable, const char *id_field, const char *id);

// The value of a text option in a request: "" when not given. Protobuf-c wants it without const.
char *tob_ctl_text(const char *given);

#endif
