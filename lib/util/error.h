// tob_error says how a call failed. RPC codes come from it in rpc/status.c, HTTP statuses in http/status.c.
#ifndef TOB_UTIL_ERROR_H
#define TOB_UTIL_ERROR_H

#define TOB_MUST_USE                    __attribute__((warn_unused_result))
#define TOB_PRINTF(text_arg, first_arg) __attribute__((format(printf, text_arg, first_arg)))

typedef enum tob_error {
    TOB_OK = 0,
    TOB_INVALID,           // a value is outside its range: the caller's input is at fault
    TOB_MALFORMED,         // bytes that are not what their format says
    TOB_TOO_LARGE,         // over a named limit
    TOB_UNAUTHENTICATED,   // no credential, or one that is wrong
    TOB_PERMISSION_DENIED, // a good credential, for something else
    TOB_NOT_FOUND,
    TOB_ALREADY_EXISTS,
    TOB_PRECONDITION,  // not possible in the present state
    TOB_ABORTED,       // somebody else has it now
    TOB_OUT_OF_RANGE,  // a place that is not there any more, or not yet
    TOB_UNIMPLEMENTED, // no such method
    TOB_BUSY,          // too much at once: try again later
    TOB_UNAVAILABLE,   // the other side, or something it needs, is not there now: try again later
    TOB_DEADLINE,      // took longer than the caller waits
    TOB_CANCELLED,     // stopped by our own side
    TOB_NO_MEMORY,
    TOB_IO,       // the operating system refused a read or a write
    TOB_DAMAGED,  // stored data that does not pass its checks
    TOB_INTERNAL, // a bug, or a library's failure that has no better name
} tob_error;

#define TOB_ERROR_COUNT (TOB_INTERNAL + 1)

// tob_error_string: a short lower-case text, never NULL.
const char *tob_error_string(tob_error error);

// tob_error_from_errno translates errno of a failed system call.
tob_error tob_error_from_errno(int error_number);

#endif
