// A listening TCP socket. Threads: any.
#ifndef TOB_HTTP_LISTEN_H
#define TOB_HTTP_LISTEN_H

#include <stdint.h>

#include "util/error.h"

// tob_listen opens "HOST:PORT" or "[HOST]:PORT"; port 0 picks one.
//   ret_fd   owned by the caller; close it
// Errors: TOB_INVALID for the address, TOB_UNAVAILABLE when it is taken, TOB_PERMISSION_DENIED, TOB_IO.
TOB_MUST_USE tob_error tob_listen(const char *address, int *ret_fd, uint16_t *ret_port);

#endif
