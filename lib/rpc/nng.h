// What every file that touches NNG needs: its errors as ours, and closing a socket without hanging.
#ifndef TOB_RPC_NNG_H
#define TOB_RPC_NNG_H

#include <nng/nng.h>
#include <stdbool.h>

#include "util/error.h"

#define TOB_NNG_CLOSE_MS 1000

tob_error tob_error_from_nng(int nng_error);

// tob_nng_close closes a socket, within TOB_NNG_CLOSE_MS.
//
// NNG 1.5.2 never returns from nng_close when a connection is closed between the header and the body of an incoming
// message: its TCP transport then starts a read that is refused without a callback, and the connection's own receive
// waits for it for ever (tcptran_pipe_recv_cb after tcptran_pipe_close). So it runs in a thread that is left behind
// when that happens.
//
// Returns false when it was left behind: what the socket's callbacks use must then stay allocated.
// Not from an NNG callback.
TOB_MUST_USE bool tob_nng_close(nng_socket socket);

#endif
