// Translates NNG's error numbers at the edge. For the files that touch NNG only.
#ifndef TOB_RPC_NNG_ERROR_H
#define TOB_RPC_NNG_ERROR_H

#include "util/error.h"

tob_error tob_error_from_nng(int nng_error);

#endif
