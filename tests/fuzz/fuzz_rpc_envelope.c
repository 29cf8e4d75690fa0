// The RPC server as the network sees it: every input is one NNG message to a real server on loopback.
//
// Promises: every message is answered, with a Response whose code is one of rpc.proto's; a request reaches its
// handler only when it is well-formed; the server goes on.
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <string.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/process.pb-c.h"
#include "tobogganing/v1/rpc.pb-c.h"

#include "fuzz.h"
#include "rpc/server.h"

enum { MAX_INPUT_BYTES = 64 << 10, DEADLINE_MS = 20000 };

static tob_rpc_server *server;
static nng_socket socket_of_fuzzer;

static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    FUZZ_CHECK(request->base.descriptor == &tobogganing__v1__submit_request__descriptor);
    const char *bearer = tob_rpc_call_bearer(call);
    if (bearer && strcmp(bearer, "fail") == 0) {
        tob_rpc_fail(call, TOB_PERMISSION_DENIED, 1, "no");
        return;
    }
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    response.stored_series = (uint32_t)request->n_credentials;
    tob_rpc_reply(call, &response.base);
}

static void on_report(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)message;
    (void)user;
    Tobogganing__V1__ReportResponse response = TOBOGGANING__V1__REPORT_RESPONSE__INIT;
    tob_rpc_reply(call, &response.base);
}

static void start(void) {
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 2,
                                      .max_connections = 4,
                                      .max_message_bytes = 4 << 20,
                                      .max_inflated_bytes = 1 << 20,
                                      .max_arena_bytes = 4 << 20};
    char url[64];
    FUZZ_CHECK(tob_rpc_server_new(&options, &server) == TOB_OK);
    FUZZ_CHECK(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit, NULL) ==
               TOB_OK);
    FUZZ_CHECK(tob_rpc_server_add(server, &tobogganing__v1__processes__descriptor, "Report", on_report,
                                  NULL) == TOB_OK);
    FUZZ_CHECK(tob_rpc_server_start(server) == TOB_OK);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(server));
    FUZZ_CHECK(nng_req0_open(&socket_of_fuzzer) == 0);
    FUZZ_CHECK(nng_socket_set_ms(socket_of_fuzzer, NNG_OPT_RECVTIMEO, DEADLINE_MS) == 0);
    FUZZ_CHECK(nng_socket_set_ms(socket_of_fuzzer, NNG_OPT_SENDTIMEO, DEADLINE_MS) == 0);
    FUZZ_CHECK(nng_dial(socket_of_fuzzer, url, NULL, 0) == 0);
}

static void stop(void) {
    nng_close(socket_of_fuzzer);
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    if (!server) {
        start();
        atexit(stop);
    }
    nng_msg *msg = NULL;
    FUZZ_CHECK(nng_msg_alloc(&msg, 0) == 0 && nng_msg_append(msg, data, n) == 0);
    FUZZ_CHECK(nng_sendmsg(socket_of_fuzzer, msg, 0) == 0);
    FUZZ_CHECK(nng_recvmsg(socket_of_fuzzer, &msg, 0) == 0);
    Tobogganing__V1__Response *response =
        tobogganing__v1__response__unpack(NULL, nng_msg_len(msg), nng_msg_body(msg));
    nng_msg_free(msg);
    FUZZ_CHECK(response);
    FUZZ_CHECK(protobuf_c_enum_descriptor_get_value(&tobogganing__v1__code__descriptor, (int)response->code));
    FUZZ_CHECK((response->code == TOBOGGANING__V1__CODE__CODE_OK) == (response->message[0] == 0));
    tobogganing__v1__response__free_unpacked(response, NULL);
    return 0;
}
