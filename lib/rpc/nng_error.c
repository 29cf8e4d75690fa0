#include "rpc/nng_error.h"

#include <nng/nng.h>

tob_error tob_error_from_nng(int nng_error) {
    switch (nng_error) {
    case 0: return TOB_OK;
    case NNG_ENOMEM: return TOB_NO_MEMORY;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP: return TOB_INVALID;
    case NNG_EADDRINUSE:
    case NNG_ECONNREFUSED:
    case NNG_ECONNRESET:
    case NNG_ECONNABORTED:
    case NNG_EUNREACHABLE: return TOB_UNAVAILABLE;
    case NNG_ETIMEDOUT: return TOB_DEADLINE;
    case NNG_ECLOSED:
    case NNG_ECANCELED: return TOB_CANCELLED;
    case NNG_EPERM: return TOB_PERMISSION_DENIED;
    case NNG_EMSGSIZE: return TOB_TOO_LARGE;
    case NNG_EPROTO: return TOB_MALFORMED;
    default: return TOB_INTERNAL;
    }
}
