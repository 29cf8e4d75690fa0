#include "rpc/status.h"

#define CODE(name) TOBOGGANING__V1__CODE__CODE_##name

Tobogganing__V1__Code tob_status_code(tob_error error) {
    switch (error) {
    case TOB_OK: return CODE(OK);
    case TOB_INVALID:
    case TOB_MALFORMED:
    case TOB_TOO_LARGE: return CODE(INVALID_ARGUMENT);
    case TOB_UNAUTHENTICATED: return CODE(UNAUTHENTICATED);
    case TOB_PERMISSION_DENIED: return CODE(PERMISSION_DENIED);
    case TOB_NOT_FOUND: return CODE(NOT_FOUND);
    case TOB_ALREADY_EXISTS: return CODE(ALREADY_EXISTS);
    case TOB_PRECONDITION: return CODE(FAILED_PRECONDITION);
    case TOB_ABORTED: return CODE(ABORTED);
    case TOB_OUT_OF_RANGE: return CODE(OUT_OF_RANGE);
    case TOB_UNIMPLEMENTED: return CODE(UNIMPLEMENTED);
    case TOB_BUSY:
    case TOB_NO_MEMORY: return CODE(RESOURCE_EXHAUSTED);
    case TOB_UNAVAILABLE:
    case TOB_IO: return CODE(UNAVAILABLE);
    case TOB_DEADLINE: return CODE(DEADLINE_EXCEEDED);
    case TOB_CANCELLED: return CODE(CANCELLED);
    case TOB_DAMAGED: return CODE(DATA_LOSS);
    case TOB_INTERNAL: return CODE(INTERNAL);
    }
    return CODE(UNKNOWN);
}

tob_error tob_status_error(Tobogganing__V1__Code code) {
    switch (code) {
    case CODE(OK): return TOB_OK;
    case CODE(CANCELLED): return TOB_CANCELLED;
    case CODE(INVALID_ARGUMENT): return TOB_INVALID;
    case CODE(OUT_OF_RANGE): return TOB_OUT_OF_RANGE;
    case CODE(DEADLINE_EXCEEDED): return TOB_DEADLINE;
    case CODE(NOT_FOUND): return TOB_NOT_FOUND;
    case CODE(ALREADY_EXISTS): return TOB_ALREADY_EXISTS;
    case CODE(PERMISSION_DENIED): return TOB_PERMISSION_DENIED;
    case CODE(RESOURCE_EXHAUSTED): return TOB_BUSY;
    case CODE(FAILED_PRECONDITION): return TOB_PRECONDITION;
    case CODE(ABORTED): return TOB_ABORTED;
    case CODE(UNIMPLEMENTED): return TOB_UNIMPLEMENTED;
    case CODE(UNAVAILABLE): return TOB_UNAVAILABLE;
    case CODE(DATA_LOSS): return TOB_DAMAGED;
    case CODE(UNAUTHENTICATED): return TOB_UNAUTHENTICATED;
    case CODE(UNKNOWN):
    case CODE(INTERNAL): return TOB_INTERNAL;
    case _TOBOGGANING__V1__CODE_IS_INT_SIZE: break;
    }
    return TOB_INTERNAL;
}

const char *tob_status_name(Tobogganing__V1__Code code) {
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&tobogganing__v1__code__descriptor, (int)code);
    return value ? value->name + sizeof("CODE_") - 1 : "UNKNOWN";
}
