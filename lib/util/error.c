#include "util/error.h"

#include <errno.h>

const char *tob_error_string(tob_error error) {
    switch (error) {
    case TOB_OK: return "ok";
    case TOB_INVALID: return "invalid";
    case TOB_MALFORMED: return "malformed";
    case TOB_TOO_LARGE: return "too large";
    case TOB_UNAUTHENTICATED: return "unauthenticated";
    case TOB_PERMISSION_DENIED: return "permission denied";
    case TOB_NOT_FOUND: return "not found";
    case TOB_ALREADY_EXISTS: return "already exists";
    case TOB_PRECONDITION: return "failed precondition";
    case TOB_ABORTED: return "aborted";
    case TOB_OUT_OF_RANGE: return "out of range";
    case TOB_UNIMPLEMENTED: return "unimplemented";
    case TOB_BUSY: return "busy";
    case TOB_UNAVAILABLE: return "unavailable";
    case TOB_DEADLINE: return "deadline exceeded";
    case TOB_CANCELLED: return "cancelled";
    case TOB_NO_MEMORY: return "out of memory";
    case TOB_IO: return "input/output error";
    case TOB_DAMAGED: return "damaged data";
    case TOB_INTERNAL: return "internal error";
    }
    return "unknown error";
}

tob_error tob_error_from_errno(int error_number) {
    switch (error_number) {
    case 0: return TOB_OK;
    case ENOMEM: return TOB_NO_MEMORY;
    case ENOENT: return TOB_NOT_FOUND;
    case EEXIST: return TOB_ALREADY_EXISTS;
    case EACCES:
    case EPERM: return TOB_PERMISSION_DENIED;
    case EINVAL: return TOB_INVALID;
    case ETIMEDOUT: return TOB_DEADLINE;
    case ECONNREFUSED:
    case ECONNRESET:
    case EADDRINUSE:
    case EADDRNOTAVAIL: return TOB_UNAVAILABLE;
    default: return TOB_IO;
    }
}
