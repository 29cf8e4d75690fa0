#include "util/options.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/text.h"

// Prints text wrapped at 80 columns behind `indent` spaces; a newline in the text starts a new line.
static void print_wrapped(const char *text, int indent) {
    int column = 0;
    while (*text) {
        size_t word = strcspn(text, " \n");
        if (column && column + (int)word + 1 > 80) {
            putchar('\n');
            column = 0;
        }
        if (column == 0) {
            column = printf("%*s%.*s", indent, "", (int)word, text);
        } else {
            column += printf(" %.*s", (int)word, text);
        }
        text += word;
        if (*text == '\n') {
            putchar('\n');
            column = 0;
            text++;
        }
        while (*text == ' ') {
            text++;
        }
    }
    putchar('\n');
}

static void print_option(const tob_option *option) {
    printf("  ");
    if (option->name) {
        printf("--%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "");
    }
    if (option->env) {
        printf("%s%s", option->name ? "  or in the environment " : "", option->env);
        if (!option->name && option->value) {
            printf("=%s", option->value);
        }
    }
    putchar('\n');
    print_wrapped(option->help, 6);
    if (option->fallback && *option->fallback) {
        printf("      Default: %s\n", option->fallback);
    }
}

static void print_synopsis(const tob_command *command) {
    printf("  %s%s%s [OPTION]…%s%s\n", command->program, command->name ? " " : "",
           command->name ? command->name : "", command->arguments ? " " : "",
           command->arguments ? command->arguments : "");
}

static void print_help(const tob_command *command) {
    printf("NAME\n  %s%s%s - %s\n\nSYNOPSIS\n", command->program, command->name ? " " : "",
           command->name ? command->name : "", command->summary);
    print_synopsis(command);
    if (command->description) {
        printf("\nDESCRIPTION\n");
        print_wrapped(command->description, 2);
    }
    printf("\nOPTIONS\n");
    for (size_t i = 0; i < command->option_count; i++) {
        print_option(&command->options[i]);
    }
    printf("  --help\n      Print this and exit.\n  --version\n      Print the version and exit.\n");
    if (command->examples) {
        printf("\nEXAMPLES\n%s\n", command->examples);
    }
    printf("\nEXIT STATUS\n  0 success; 1 it failed, the reason is on stderr; 2 wrong usage or settings.\n");
}

static void print_error_prefix(const tob_command *command, const tob_option *option) {
    fprintf(stderr, "%s%s%s: ", command->program, command->name ? " " : "",
            command->name ? command->name : "");
    if (option && option->name) {
        fprintf(stderr, "option --%s", option->name);
        fprintf(stderr, option->env ? " (%s): " : ": ", option->env);
    } else if (option) {
        fprintf(stderr, "%s: ", option->env);
    }
}

static int fail(const tob_command *command, const tob_option *option, const char *format, ...)
    TOB_PRINTF(3, 4);
static int fail(const tob_command *command, const tob_option *option, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_error_prefix(command, option);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return TOB_EXIT_USAGE;
}

int tob_options_error(const tob_command *command, const char *name_or_env, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (size_t i = 0; i < command->option_count; i++) {
        const tob_option *option = &command->options[i];
        if ((option->name && strcmp(option->name, name_or_env) == 0) ||
            (option->env && strcmp(option->env, name_or_env) == 0)) {
            return fail(command, option, "%s", text);
        }
    }
    return fail(command, NULL, "%s", text);
}

static tob_error parse_flag(const char *text, bool *ret) {
    bool on = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    if (!on && strcmp(text, "0") != 0 && strcmp(text, "false") != 0) {
        return TOB_INVALID;
    }
    *ret = on;
    return TOB_OK;
}

static const char *expected(const tob_option *option) {
    switch (option->kind) {
    case TOB_OPTION_STRING: return "a text";
    case TOB_OPTION_FLAG: return "1, true, 0 or false";
    case TOB_OPTION_NUMBER: return "a whole number";
    case TOB_OPTION_BYTES: return "a size like 4096, 64KiB, 4MiB or 1GiB";
    case TOB_OPTION_DURATION: return "a duration like 500ms, 10s, 5m, 24h or 7d";
    }
    return "";
}

static int set(const tob_command *command, const tob_option *option, const char *text) {
    tob_error err = TOB_OK;
    uint64_t number = 0;
    switch (option->kind) {
    case TOB_OPTION_STRING: *(const char **)option->target = text; return -1;
    case TOB_OPTION_FLAG: err = parse_flag(text, option->target); break;
    case TOB_OPTION_NUMBER: err = tob_parse_u64(text, UINT64_MAX, &number); break;
    case TOB_OPTION_BYTES: err = tob_parse_bytes(text, &number); break;
    case TOB_OPTION_DURATION: err = tob_parse_duration_ms(text, &number); break;
    }
    if (err) {
        return fail(command, option, "'%s' is not %s", text, expected(option));
    }
    if (option->kind == TOB_OPTION_FLAG) {
        return -1;
    }
    if (number < option->min || (option->max && number > option->max)) {
        return fail(command, option, "'%s' is not between %llu and %llu%s", text,
                    (unsigned long long)option->min,
                    (unsigned long long)(option->max ? option->max : UINT64_MAX),
                    option->kind == TOB_OPTION_DURATION ? " ms" : "");
    }
    *(uint64_t *)option->target = number;
    return -1;
}

static int set_defaults(const tob_command *command) {
    for (size_t i = 0; i < command->option_count; i++) {
        const tob_option *option = &command->options[i];
        const char *text = option->env ? getenv(option->env) : NULL;
        if (!text || (!*text && option->kind != TOB_OPTION_STRING)) {
            text = option->fallback;
        }
        if (text) {
            int status = set(command, option, text);
            if (status >= 0) {
                return status;
            }
        }
    }
    return -1;
}

enum { LONG_BASE = 1000, LONG_HELP = 998, LONG_VERSION = 999 };

static size_t long_options(const tob_command *command, struct option *to) {
    size_t n = 0;
    for (size_t i = 0; i < command->option_count; i++) {
        const tob_option *option = &command->options[i];
        if (option->name) {
            to[n++] =
                (struct option){.name = option->name,
                                .has_arg = option->kind == TOB_OPTION_FLAG ? no_argument : required_argument,
                                .val = LONG_BASE + (int)i};
        }
    }
    to[n++] = (struct option){.name = "help", .val = LONG_HELP};
    to[n++] = (struct option){.name = "version", .val = LONG_VERSION};
    to[n] = (struct option){.name = NULL};
    return n;
}

static int take(const tob_command *command, int found, char **argv) {
    switch (found) {
    case LONG_HELP: print_help(command); return 0;
    case LONG_VERSION: printf("%s %s\n", command->program, TOB_VERSION); return 0;
    case '?': return fail(command, NULL, "unknown option '%s'; see --help", argv[optind - 1]);
    case ':': return fail(command, NULL, "option '%s' needs a value; see --help", argv[optind - 1]);
    default: break;
    }
    const tob_option *option = &command->options[found - LONG_BASE];
    return set(command, option, option->kind == TOB_OPTION_FLAG ? "1" : optarg);
}

// The option that getopt_long has just taken, as it was typed.
static const char *typed(char **argv) {
    bool value_apart = optarg && optarg == argv[optind - 1]; // "--name value"
    return argv[optind - (value_apart ? 2 : 1)];
}

// getopt_long takes any unique abbreviation; then a new option would change what an old command line means.
static bool is_whole_name(const struct option *found, const char *token) {
    size_t len = strcspn(token + 2, "=");
    return strlen(found->name) == len && strncmp(found->name, token + 2, len) == 0;
}

int tob_options_parse(const tob_command *command, int argc, char **argv, char ***ret_args,
                      size_t *ret_arg_count) {
    assert(command->option_count <= TOB_OPTIONS_MAX);
    struct option longs[TOB_OPTIONS_MAX + 3];
    long_options(command, longs);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) { // help works whatever else is wrong
        if (strcmp(argv[i], "--help") == 0) {
            return take(command, LONG_HELP, argv);
        }
    }
    int status = set_defaults(command);
    optind = 0; // start again: glibc re-reads argv
    opterr = 0;
    while (status < 0) {
        int index = 0;
        int found = getopt_long(argc, argv, ":", longs, &index);
        if (found < 0) {
            break;
        }
        if (found >= LONG_HELP && !is_whole_name(&longs[index], typed(argv))) {
            return fail(command, NULL, "unknown option '%s'; see --help", typed(argv));
        }
        status = take(command, found, argv);
    }
    if (status >= 0) {
        return status;
    }
    size_t count = (size_t)(argc - optind);
    if (count < command->min_args) {
        return fail(command, NULL, "needs %s; see --help", command->arguments);
    }
    if (count > command->max_args) {
        return fail(command, NULL, "unexpected argument '%s'; see --help",
                    argv[optind + (int)command->max_args]);
    }
    *ret_args = argv + optind;
    *ret_arg_count = count;
    return -1;
}

int tob_log_options_apply(const tob_command *command, const tob_log_options *options) {
    if (tob_log_configure(command->program, options->level, "logfmt")) {
        return tob_options_error(command, "log-level", "'%s' is not debug, info, warn or error",
                                 options->level);
    }
    if (tob_log_configure(command->program, options->level, options->format)) {
        return tob_options_error(command, "log-format", "'%s' is not logfmt or json", options->format);
    }
    return -1;
}
