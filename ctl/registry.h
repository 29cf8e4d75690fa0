// The commands that are alike: each kind of thing is described once, and one function serves all that do the same.
//
// Threads: main thread. Errors: printed on stderr, once; the return value is the exit status.
#ifndef TOB_CTL_REGISTRY_H
#define TOB_CTL_REGISTRY_H

#include "ctl/output.h"
#include "ctl/session.h"

#define TOB_CTL_SERVICE   "/tobogganing.v1.Registry/"
#define TOB_CTL_MAX_TEXTS 8

// An option that sets a text of a request.
typedef struct tob_ctl_text {
    const char *option; // "cluster"
    const char *value;  // "ID"
    const char *field;  // of the request: "cluster_id"
    const char *help;
    const char *unset; // what "add" does without it: "Default: none."
} tob_ctl_text;

// What can be registered.
typedef struct tob_ctl_kind {
    const char *id_field;  // "client_id"
    const char *variable;  // "CLIENT_ID"
    const char *row_field; // of the answer of add: "client"
    const tob_ctl_text *texts;
    size_t text_count;
    const char *add_method;
    const ProtobufCMessageDescriptor *add_request;
    const ProtobufCMessageDescriptor *add_response;
    const char *update_method;
    const ProtobufCMessageDescriptor *update_request;
    const ProtobufCMessageDescriptor *row;
    bool if_missing; // add has --if-missing
    bool place;      // add has --place
    const char *add_description;
    const char *add_examples;
} tob_ctl_kind;

extern const tob_ctl_kind tob_ctl_client_kind;
extern const tob_ctl_kind tob_ctl_cluster_kind;
extern const tob_ctl_kind tob_ctl_headend_kind;

// `run` of the add and update commands; spec: the tob_ctl_kind.
int tob_ctl_run_add(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_run_update(const tob_ctl_command *self, int argc, char **argv);

// A command with one argument, which is the only field of its request.
typedef struct tob_ctl_id_command {
    const char *argument; // "CLIENT_ID"
    const char *method;   // with its service
    const ProtobufCMessageDescriptor *request_type;
    const ProtobufCMessageDescriptor *response_type;
    tob_ctl_credential credential;                                   // admin or cluster
    void (*print)(const char *id, const ProtobufCMessage *response); // for people; NULL: every field
    const char *description;                                         // or NULL
} tob_ctl_id_command;

// `run` of these; spec: the tob_ctl_id_command. With --json it prints the answer, or the request where the answer has
// no fields.
int tob_ctl_run_id(const tob_ctl_command *self, int argc, char **argv);

// `print`s for those: "ID is revoked since TIME", "ID is deleted".
void tob_ctl_print_revoked(const char *id, const ProtobufCMessage *response);
void tob_ctl_print_deleted(const char *id, const ProtobufCMessage *response);

// Options that are put together at run time.
typedef struct tob_ctl_options {
    tob_option list[TOB_OPTIONS_MAX];
    size_t count;
} tob_ctl_options;

void tob_ctl_options_add(tob_ctl_options *to, const tob_option *options, size_t count);

// tob_ctl_field finds a field that the type has; a program's bug otherwise.
const ProtobufCFieldDescriptor *tob_ctl_field(const ProtobufCMessageDescriptor *type, const char *name);

// tob_ctl_set_text sets a text field; borrowed. NULL leaves it empty.
void tob_ctl_set_text(ProtobufCMessage *request, const char *field, const char *text);

// tob_ctl_new_request: free with free. NULL after saying that there is no memory.
ProtobufCMessage *tob_ctl_new_request(const ProtobufCMessageDescriptor *type);

// The value of a text option in a request: "" when not given. Protobuf-c wants it without const.
char *tob_ctl_given(const char *text);

#endif
