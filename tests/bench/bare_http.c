// bench_bare_http is the least that the gateway could do: the same HTTP server, the same route, the documented answer,
// and nothing behind it.
#include <stdio.h>
#include <string.h>

#include "http/server.h"
#include "util/daemon.h"
#include "util/options.h"

static const char *listen_address;

static const tob_option options[] = {{.name = "listen",
                                      .value = "HOST:PORT",
                                      .fallback = "127.0.0.1:0",
                                      .kind = TOB_OPTION_STRING,
                                      .target = &listen_address,
                                      .help = "Where."}};

static const tob_command command = {.program = "bench_bare_http",
                                    .summary = "answers every client report with 200",
                                    .options = options,
                                    .option_count = sizeof(options) / sizeof(options[0])};

static void on_report(h2o_req_t *req, const tob_http_match *match, void *user) {
    static const char body[] = "{\"status\":\"metrics_received\"}";
    (void)match;
    (void)user;
    tob_http_send(req, 200, "application/json", body, strlen(body));
}

int main(int argc, char **argv) {
    char **args = NULL;
    size_t arg_count = 0;
    tob_http_server *server = NULL;
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status >= 0) {
        return status;
    }
    tob_daemon_block_signals();
    tob_http_server_options server_options = {.listen = listen_address};
    tob_error err = tob_http_server_new(&server_options, &server);
    if (!err) {
        err = tob_http_server_route(server, "POST", "/api/v1/clients/{client_id}/metrics", on_report, NULL);
    }
    if (!err) {
        err = tob_http_server_start(server);
    }
    if (err) {
        fprintf(stderr, "bench_bare_http: %s: %s\n", listen_address, tob_error_string(err));
        tob_http_server_free(server);
        return 1;
    }
    fprintf(stderr, "event=ready port=%u\n", tob_http_server_port(server));
    while (tob_daemon_wait(0) != TOB_SIGNAL_STOP) {
    }
    tob_http_server_stop(server, 1000);
    tob_http_server_free(server);
    return 0;
}
