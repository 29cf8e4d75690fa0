// One table of options is a program's flags, environment variables, --help and documentation.
//
// Precedence: flag, then environment, then the fallback. An unknown flag, a value out of range or a missing
// argument is an error that names the option and the way out.
// Threads: main thread, before others start.
#ifndef TOB_UTIL_OPTIONS_H
#define TOB_UTIL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_OPTIONS_MAX 48
#define TOB_EXIT_USAGE  2

typedef struct tob_option {
    const char *name;     // "listen" is --listen; NULL: environment only, for secrets
    const char *env;      // NULL: flag only
    const char *value;    // what the value is called in --help; NULL only for TOB_OPTION_FLAG
    const char *fallback; // as one would type it; NULL: none (target stays as it is)
    enum {
        TOB_OPTION_STRING,   // target: const char *
        TOB_OPTION_FLAG,     // target: bool; in the environment 1, true, 0 or false
        TOB_OPTION_NUMBER,   // target: uint64_t, min…max
        TOB_OPTION_BYTES,    // target: uint64_t, min…max; "4MiB"
        TOB_OPTION_DURATION, // target: uint64_t milliseconds, min…max; "10s", "500ms"
    } kind;
    void *target;
    uint64_t min;
    uint64_t max; // 0: no maximum
    const char *help;
} tob_option;

typedef struct tob_command {
    const char *program;     // "tobogganctl"
    const char *name;        // "client add", or NULL when the program has no subcommands
    const char *summary;     // one line
    const char *arguments;   // "CLIENT_ID", or NULL
    const char *description; // paragraphs, or NULL
    const char *examples;    // ready to paste, or NULL
    const tob_option *options;
    size_t option_count;
    size_t min_args;
    size_t max_args;
} tob_command;

// tob_options_parse fills the targets. argv[0] is skipped.
//   ret_args   set to the first positional argument inside argv (which is permuted), ret_arg_count of them
// Returns -1 to go on; else the status to exit with: 0 after --help or --version (on stdout), TOB_EXIT_USAGE
// after an error (one line on stderr that names the option).
TOB_MUST_USE int tob_options_parse(const tob_command *command, int argc, char **argv, char ***ret_args,
                                   size_t *ret_arg_count);

// tob_options_error prints "program: option --NAME (ENV): message" for a check made after parsing, and returns
// TOB_EXIT_USAGE.
int tob_options_error(const tob_command *command, const char *name_or_env, const char *format, ...)
    TOB_PRINTF(3, 4);

// The options that every daemon has: --log-level, --log-format.
typedef struct tob_log_options {
    const char *level;
    const char *format;
} tob_log_options;

// tob_log_options_apply configures the logger (util/log.h) after parsing. Returns -1, or the status to exit with.
TOB_MUST_USE int tob_log_options_apply(const tob_command *command, const tob_log_options *options);

#define TOB_LOG_OPTIONS(t)                                                                                   \
    {.name = "log-level",                                                                                    \
     .env = "TOBOGGANING_LOG_LEVEL",                                                                         \
     .value = "LEVEL",                                                                                       \
     .fallback = "info",                                                                                     \
     .kind = TOB_OPTION_STRING,                                                                              \
     .target = &(t)->level,                                                                                  \
     .help = "debug, info, warn or error"},                                                                  \
    {                                                                                                        \
        .name = "log-format", .env = "TOBOGGANING_LOG_FORMAT", .value = "FORMAT", .fallback = "logfmt",      \
        .kind = TOB_OPTION_STRING, .target = &(t)->format, .help = "logfmt or json"                          \
    }

#endif
