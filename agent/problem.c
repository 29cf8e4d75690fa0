#include "agent/problem.h"

#include <stdarg.h>
#include <stdio.h>

tob_error tob_problem_set(tob_problem *problem, tob_error error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
    return error;
}
