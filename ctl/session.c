#include "ctl/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/status.h"
#include "util/secret.h"

// What a credential is called in options and messages.
typedef struct token_names {
    const char *variable;
    const char *file_option;
} token_names;

static token_names names_of(tob_ctl_credential credential) {
    switch (credential) {
    case TOB_CTL_ADMIN: return (token_names){"ADMIN_TOKEN", "admin-token-file"};
    case TOB_CTL_CLUSTER: return (token_names){"CLUSTER_TOKEN", "cluster-token-file"};
    case TOB_CTL_NONE: break;
    }
    return (token_names){"", ""};
}

static int read_token(const tob_ctl_session *session, const tob_command *command, char **ret) {
    token_names names = names_of(session->credential);
    bool given = session->token && *session->token;
    bool file = session->token_file && *session->token_file;
    if (!given && !file) {
        return tob_options_error(command, names.variable, "is needed, or a file with it: --%s",
                                 names.file_option);
    }
    tob_error err = tob_secret_read_first(session->token, session->token_file, ret);
    if (err) {
        return tob_options_error(command, file ? names.file_option : names.variable, "%s%s%s",
                                 file ? session->token_file : "", file ? ": " : "", tob_error_string(err));
    }
    return 0;
}

int tob_ctl_open(tob_ctl_session *session, const tob_command *command, tob_ctl_credential credential) {
    char *token = NULL;
    session->credential = credential;
    int status = credential == TOB_CTL_NONE ? 0 : read_token(session, command, &token);
    if (status) {
        return status;
    }
    tob_rpc_client_options options = {.urls = session->server,
                                      .max_in_flight = 1,
                                      .bearer = token,
                                      .compress = session->compress};
    tob_error err = tob_rpc_client_new(&options, &session->client);
    if (token) {
        explicit_bzero(token, strlen(token));
    }
    free(token);
    if (err == TOB_INVALID) {
        return tob_options_error(command, "server", "'%s' is not a URL like tcp://127.0.0.1:8010",
                                 session->server);
    }
    if (err) {
        fprintf(stderr, TOB_CTL_PROGRAM ": %s\n", tob_error_string(err));
    }
    return err ? 1 : 0;
}

void tob_ctl_close(tob_ctl_session *session) {
    if (session->client) {
        tob_rpc_client_stop(session->client);
        tob_rpc_client_free(session->client);
        session->client = NULL;
    }
}

// What to look at, or when to try again.
static void print_hint(const tob_ctl_session *session, tob_error error) {
    const tob_rpc_failure *last = &session->last_call;
    if (last->answered && last->retry_after_ms) {
        fprintf(stderr, " (try again in %u s)", (last->retry_after_ms + 999) / 1000);
    } else if ((error == TOB_UNAVAILABLE || error == TOB_DEADLINE) && !last->answered) {
        fprintf(stderr, " (is ingestd running at %s? see --server)", session->server);
    } else if (error == TOB_UNAUTHENTICATED || error == TOB_PERMISSION_DENIED) {
        fprintf(stderr, " (is %s one that ingestd at %s was started with?)",
                names_of(session->credential).variable, session->server);
    } else if (error == TOB_UNIMPLEMENTED) {
        fprintf(stderr, " (is ingestd at %s of another version? this is %s)", session->server, TOB_VERSION);
    }
}

static void print_failure(const tob_ctl_session *session, tob_error error) {
    const char *message = session->last_call.message;
    bool connected = tob_rpc_client_connections(session->client) > 0;
    if (error == TOB_DEADLINE && !connected) {
        error = TOB_UNAVAILABLE; // it waited for a connection all the time
    }
    tob_ctl_progress("%s", "");
    fprintf(stderr, TOB_CTL_PROGRAM ": %s: %s", tob_status_name(tob_status_code(error)),
            *message ? message : tob_error_string(error));
    print_hint(session, error);
    fputc('\n', stderr);
}

int tob_ctl_call(tob_ctl_session *session, const char *method, const ProtobufCMessage *request,
                 const ProtobufCMessageDescriptor *response_type, tob_error accept, ProtobufCMessage **ret) {
    uint32_t timeout_ms = (uint32_t)session->timeout_ms;
    session->last_call = (tob_rpc_failure){.message = ""};
    tob_error err = session->only_server
                        ? tob_rpc_client_call_to_wait(session->client, session->only_server, method, request,
                                                      response_type, timeout_ms, ret, &session->last_call)
                        : tob_rpc_client_call_wait(session->client, method, request, response_type,
                                                   timeout_ms, ret, &session->last_call);
    session->last_error = err;
    if (err && err != accept) {
        print_failure(session, err);
    }
    return err && err != accept ? 1 : 0;
}

int tob_ctl_ask(tob_ctl_session *session, const tob_command *command, tob_ctl_credential credential,
                const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *response_type, tob_error accept, ProtobufCMessage **ret) {
    int status = tob_ctl_open(session, command, credential);
    if (status == 0) {
        status = tob_ctl_call(session, method, request, response_type, accept, ret);
    }
    tob_ctl_close(session);
    return status;
}

int tob_ctl_ask_and_print(tob_ctl_session *session, const tob_command *command, tob_ctl_credential credential,
                          const char *method, const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *response_type,
                          int (*print)(const tob_ctl_session *session, const ProtobufCMessage *response)) {
    ProtobufCMessage *response = NULL;
    int status = tob_ctl_ask(session, command, credential, method, request, response_type, TOB_OK, &response);
    if (status == 0) {
        status = print(session, response);
    }
    tob_ctl_free_secret(response);
    return status;
}

static void wipe(ProtobufCMessage *message);

// `at` points to one value as protobuf-c keeps it.
static void wipe_value(const ProtobufCFieldDescriptor *field, void *at) {
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *text = *(char **)at;
        if (text && text != protobuf_c_empty_string) {
            explicit_bzero(text, strlen(text));
        }
    } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData *bytes = at;
        if (bytes->data) {
            explicit_bzero(bytes->data, bytes->len);
        }
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage **)at) {
        wipe(*(ProtobufCMessage **)at);
    }
}

// Answers with secrets have no repeated fields but those of public things.
static void wipe(ProtobufCMessage *message) {
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            wipe_value(field, (char *)message + field->offset);
        }
    }
}

void tob_ctl_free_secret(ProtobufCMessage *message) {
    if (message) {
        wipe(message);
    }
    protobuf_c_message_free_unpacked(message, NULL);
}
