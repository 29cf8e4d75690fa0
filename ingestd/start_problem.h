// Why ingestd does not start: a text for a person, and the option at fault.
#ifndef TOB_INGESTD_START_PROBLEM_H
#define TOB_INGESTD_START_PROBLEM_H

#include <stdarg.h>
#include <stdio.h>

#include "util/error.h"

#define TOB_START_PROBLEM_BYTES 640

typedef struct tob_start_problem {
    char text[TOB_START_PROBLEM_BYTES];
    const char *option; // NULL: none
} tob_start_problem;

// tob_start_fail fills the problem and returns `error`.
static inline tob_error tob_start_fail(tob_start_problem *problem, tob_error error, const char *option,
                                       const char *format, ...) TOB_PRINTF(4, 5);
static inline tob_error tob_start_fail(tob_start_problem *problem, tob_error error, const char *option,
                                       const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
    problem->option = option;
    return error;
}

#endif
