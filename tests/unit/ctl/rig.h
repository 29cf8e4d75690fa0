// What the tests of commands share: a real RPC server on loopback whose methods a test fills in, and a way to run a
// command as main runs it. To be included after cmocka.h.
#ifndef TOB_TESTS_CTL_RIG_H
#define TOB_TESTS_CTL_RIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/command.h"
#include "rpc/server.h"

enum { MAX_OUTPUT = 65536, MAX_ARGS = 32 };

typedef struct rig_method {
    const ProtobufCServiceDescriptor *service;
    const char *method;
    tob_rpc_handler handler;
} rig_method;

static char url[64];
static char out[MAX_OUTPUT];
static char err[MAX_OUTPUT];

static inline tob_rpc_server *rig_start(const rig_method *methods, size_t count) {
    tob_rpc_server *server = NULL;
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 4,
                                      .max_connections = 8,
                                      .max_message_bytes = 4u << 20,
                                      .max_inflated_bytes = 4u << 20,
                                      .max_arena_bytes = 16u << 20};
    assert_int_equal(tob_rpc_server_new(&options, &server), TOB_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tob_rpc_server_add(server, methods[i].service, methods[i].method, methods[i].handler,
                                            NULL),
                         TOB_OK);
    }
    assert_int_equal(tob_rpc_server_start(server), TOB_OK);
    return server;
}

static inline void rig_use(tob_rpc_server *server) {
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(server));
    setenv("INGEST_URL", url, 1);
    setenv("ADMIN_TOKEN", "sesame", 1);
    unsetenv("ADMIN_TOKEN_FILE");
}

static inline bool is_admin(tob_rpc_call *call) {
    const char *bearer = tob_rpc_call_bearer(call);
    if (bearer && strcmp(bearer, "sesame") == 0) {
        return true;
    }
    tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "needs an admin's token");
    return false;
}

static inline void read_back(FILE *file, char to[MAX_OUTPUT]) {
    rewind(file);
    to[fread(to, 1, MAX_OUTPUT - 1, file)] = 0;
    fclose(file);
}

// Runs "tobogganctl ARGUMENTS" (words without quotes) and keeps what it printed in `out` and `err`.
static inline int run(const char *arguments) {
    char words[1024];
    char *argv[MAX_ARGS + 1] = {(char *)"tobogganctl"};
    int argc = 1;
    snprintf(words, sizeof(words), "%s", arguments);
    char *rest = words;
    for (char *word = strsep(&rest, " "); word && argc < MAX_ARGS; word = strsep(&rest, " ")) {
        if (*word) {
            argv[argc++] = word;
        }
    }
    FILE *files[2] = {tmpfile(), tmpfile()};
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    assert_non_null(files[0]);
    assert_non_null(files[1]);
    fflush(NULL);
    dup2(fileno(files[0]), STDOUT_FILENO);
    dup2(fileno(files[1]), STDERR_FILENO);
    int status = tob_ctl_main(argc, argv);
    fflush(NULL);
    dup2(saved[0], STDOUT_FILENO);
    dup2(saved[1], STDERR_FILENO);
    close(saved[0]);
    close(saved[1]);
    read_back(files[0], out);
    read_back(files[1], err);
    return status;
}

static inline void assert_contains(const char *text, const char *part) {
    if (!strstr(text, part)) {
        fail_msg("no '%s' in: %s", part, text);
    }
}

#endif
