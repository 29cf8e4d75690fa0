// tob_error ⇄ the canonical status codes of rpc.proto: the one table.
#ifndef TOB_RPC_STATUS_H
#define TOB_RPC_STATUS_H

#include "tobogganing/v1/rpc.pb-c.h"

#include "util/error.h"

Tobogganing__V1__Code tob_status_code(tob_error error);

// An unknown code is TOB_INTERNAL.
tob_error tob_status_error(Tobogganing__V1__Code code);

// "UNAUTHENTICATED" and so on.
const char *tob_status_name(Tobogganing__V1__Code code);

#endif
