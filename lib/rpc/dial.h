// tob_dial keeps a socket dialled, also when the wall clock is stepped back.
//
// NNG 1.5.2, as Debian builds it, measures time by the wall clock (nni_clock). A pause before the next attempt to connect that
// is under way when the clock is stepped back lasts as much longer as the step was. So one thread, which runs as long as
// there are dials, compares both clocks, and after such a step it dials anew.
//
// Threads: any. Not from a callback of NNG's.
#ifndef TOB_RPC_DIAL_H
#define TOB_RPC_DIAL_H

#include <nng/nng.h>
#include <stdatomic.h>

#include "util/error.h"

#define TOB_DIAL_WATCH_MS 1000 // how often the clocks are compared
#define TOB_DIAL_STEP_MS  500  // what is taken for a step, and not for the clock's being slewed

typedef struct tob_dial tob_dial;

// tob_dial_start dials in the background, again and again.
//   connected   whether it is: then it is left alone after a step. NULL: it is dialled anew all the same. Borrowed until
//               _forget or _close
//   ret         owned by the caller; ends with tob_dial_forget or tob_dial_close, before the socket is closed
// Errors: TOB_INVALID for the URL, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_dial_start(nng_socket socket, const char *url, const atomic_bool *connected,
                                      tob_dial **ret);

// tob_dial_forget leaves the dialer to the socket, which is closed next. Accepts NULL.
void tob_dial_forget(tob_dial *dial);

// tob_dial_close closes the dialer and its connection. Accepts NULL.
void tob_dial_close(tob_dial *dial);

#endif
