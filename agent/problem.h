// tob_problem is one line for a person: what was wrong, with the file, line or field.
#ifndef TOB_AGENT_PROBLEM_H
#define TOB_AGENT_PROBLEM_H

#include "util/error.h"

#define TOB_PROBLEM_BYTES 320

typedef struct tob_problem {
    char text[TOB_PROBLEM_BYTES]; // "": none
} tob_problem;

// tob_problem_set fills it and returns `error`, so that a check is one statement.
tob_error tob_problem_set(tob_problem *problem, tob_error error, const char *format, ...) TOB_PRINTF(3, 4);

#endif
