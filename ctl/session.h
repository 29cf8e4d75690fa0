// tob_ctl_session is one connection to ingestd, with the options that every command has.
//
// Threads: main thread. Errors: printed on stderr, once, as "tobogganctl: CODE: message (what to look at)";
// the return value is the exit status: 0, 1 for a failed call, 2 for a wrong configuration.
#ifndef TOB_CTL_SESSION_H
#define TOB_CTL_SESSION_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "ctl/command.h"
#include "ctl/output.h"
#include "rpc/client.h"
#include "util/options.h"

// Which token a command presents.
typedef enum tob_ctl_credential { TOB_CTL_NONE, TOB_CTL_ADMIN, TOB_CTL_CLUSTER } tob_ctl_credential;

typedef struct tob_ctl_session {
    const char *server;
    const char *token;
    const char *token_file;
    tob_ctl_credential credential; // set by tob_ctl_open
    uint64_t timeout_ms;
    bool json;
    bool compress; // what is sent; set before tob_ctl_open
    tob_rpc_client *client;
    uint64_t only_server;      // where calls go, as in tob_rpc_failure; 0: to any
    tob_rpc_failure last_call; // how it ended
    tob_error last_error;
} tob_ctl_session;

#define TOB_CTL_SERVER_OPTIONS(s)                                                                            \
    {.name = "server",                                                                                       \
     .env = "INGEST_URL",                                                                                    \
     .value = "URL[,URL…]",                                                                                  \
     .fallback = "tcp://127.0.0.1:8010",                                                                     \
     .kind = TOB_OPTION_STRING,                                                                              \
     .target = &(s)->server,                                                                                 \
     .help = "Where ingestd listens; any of them answers."},                                                 \
        {.name = "timeout",                                                                                  \
         .value = "TIME",                                                                                    \
         .fallback = "5s",                                                                                   \
         .kind = TOB_OPTION_DURATION,                                                                        \
         .target = &(s)->timeout_ms,                                                                         \
         .min = 1,                                                                                           \
         .max = 600000,                                                                                      \
         .help = "How long each call may take, connecting included."},                                       \
        TOB_CTL_JSON_OPTION(&(s)->json)

#define TOB_CTL_ADMIN_OPTIONS(s)                                                                             \
    TOB_CTL_SERVER_OPTIONS(s),                                                                               \
        {.env = "ADMIN_TOKEN",                                                                               \
         .value = "TOKEN",                                                                                   \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(s)->token,                                                                              \
         .help = "One of ingestd's admin tokens."},                                                          \
    {                                                                                                        \
        .name = "admin-token-file", .env = "ADMIN_TOKEN_FILE", .value = "FILE", .kind = TOB_OPTION_STRING,   \
        .target = &(s)->token_file, .help = "A file with an admin token."                                    \
    }

#define TOB_CTL_CLUSTER_OPTIONS(s)                                                                           \
    TOB_CTL_SERVER_OPTIONS(s),                                                                               \
        {.env = "CLUSTER_TOKEN",                                                                             \
         .value = "TOKEN",                                                                                   \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(s)->token,                                                                              \
         .help = "One of ingestd's cluster tokens."},                                                        \
    {                                                                                                        \
        .name = "cluster-token-file", .env = "CLUSTER_TOKEN_FILE", .value = "FILE",                          \
        .kind = TOB_OPTION_STRING, .target = &(s)->token_file, .help = "A file with a cluster token."        \
    }

// tob_ctl_open starts to connect. `command` is for naming an option that is wrong.
TOB_MUST_USE int tob_ctl_open(tob_ctl_session *session, const tob_command *command,
                              tob_ctl_credential credential);
void tob_ctl_close(tob_ctl_session *session);

// tob_ctl_call calls one method.
//   accept   an error that is no failure: nothing is printed, the status is 0 and *ret stays NULL; TOB_OK for none
//   ret      owned by the caller, free with protobuf_c_message_free_unpacked(ret, NULL), or tob_ctl_free_secret
TOB_MUST_USE int tob_ctl_call(tob_ctl_session *session, const char *method, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *response_type, tob_error accept,
                              ProtobufCMessage **ret);

// tob_ctl_ask is tob_ctl_open, one tob_ctl_call and tob_ctl_close.
TOB_MUST_USE int tob_ctl_ask(tob_ctl_session *session, const tob_command *command,
                             tob_ctl_credential credential, const char *method,
                             const ProtobufCMessage *request, const ProtobufCMessageDescriptor *response_type,
                             tob_error accept, ProtobufCMessage **ret);

// tob_ctl_ask_and_print is tob_ctl_ask, and then `print`, which returns the exit status. The answer is wiped: it may have a
// key or a token.
TOB_MUST_USE int
tob_ctl_ask_and_print(tob_ctl_session *session, const tob_command *command, tob_ctl_credential credential,
                      const char *method, const ProtobufCMessage *request,
                      const ProtobufCMessageDescriptor *response_type,
                      int (*print)(const tob_ctl_session *session, const ProtobufCMessage *response));

// tob_ctl_free_secret frees an answer after wiping its texts and bytes: one that has a key or a token. NULL is fine.
void tob_ctl_free_secret(ProtobufCMessage *message);

#endif
