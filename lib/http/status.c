#include "http/server.h"

int tob_http_status(tob_error error) {
    switch (error) {
    case TOB_OK: return 200;
    case TOB_INVALID:
    case TOB_OUT_OF_RANGE:
    case TOB_MALFORMED: return 400;
    case TOB_UNAUTHENTICATED: return 401;
    case TOB_PERMISSION_DENIED: return 403;
    case TOB_NOT_FOUND: return 404;
    case TOB_ALREADY_EXISTS:
    case TOB_ABORTED:
    case TOB_PRECONDITION: return 409;
    case TOB_TOO_LARGE: return 413;
    case TOB_UNIMPLEMENTED: return 501;
    case TOB_BUSY:
    case TOB_UNAVAILABLE:
    case TOB_CANCELLED:
    case TOB_NO_MEMORY: return 503;
    case TOB_DEADLINE: return 504;
    case TOB_IO:
    case TOB_DAMAGED:
    case TOB_INTERNAL: return 500;
    }
    return 500;
}

// RFC 9110 §15, RFC 6585 §4.
const char *tob_http_reason(int status) {
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (table[i].status == status) {
            return table[i].reason;
        }
    }
    return status < 400 ? "OK" : "Error";
}
