#include "ctl/command.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const tob_ctl_commands *const tob_ctl_all_commands[] = {
    &tob_ctl_client_commands,  &tob_ctl_cluster_commands,     &tob_ctl_headend_commands,
    &tob_ctl_cert_commands,    &tob_ctl_signing_key_commands, &tob_ctl_audit_commands,
    &tob_ctl_journal_commands, &tob_ctl_consumer_commands,    &tob_ctl_health_commands,
};
const size_t tob_ctl_all_command_count = sizeof(tob_ctl_all_commands) / sizeof(tob_ctl_all_commands[0]);

// Does the command's name begin with these words?
static bool begins_with(const tob_ctl_command *command, const char *first, const char *second) {
    size_t n = strlen(first);
    if (strncmp(command->name, first, n) != 0) {
        return false;
    }
    return second ? command->name[n] == ' ' && strcmp(command->name + n + 1, second) == 0
                  : command->name[n] == ' ' || !command->name[n];
}

// Prints the commands whose first word is `group`, or all of them when it is NULL. Returns how many.
static size_t print_commands(FILE *to, const char *group) {
    size_t printed = 0;
    for (size_t i = 0; i < tob_ctl_all_command_count; i++) {
        for (size_t j = 0; j < tob_ctl_all_commands[i]->count; j++) {
            const tob_ctl_command *c = &tob_ctl_all_commands[i]->list[j];
            if (!group || begins_with(c, group, NULL)) {
                fprintf(to, "  %-27s %s\n", c->name, c->help);
                printed++;
            }
        }
    }
    return printed;
}

static int usage(FILE *to, const char *group, int status) {
    fprintf(to, "Usage: " TOB_CTL_PROGRAM " %s%sCOMMAND [OPTION]…\n\nCommands:\n", group ? group : "",
            group ? " " : "");
    print_commands(to, group);
    fprintf(to, "\nOptions: " TOB_CTL_PROGRAM " COMMAND --help; --version\n");
    return status;
}

static bool is_group(const char *name) {
    for (size_t i = 0; i < tob_ctl_all_command_count; i++) {
        if (begins_with(&tob_ctl_all_commands[i]->list[0], name, NULL)) {
            return true;
        }
    }
    return false;
}

// How many words at argv[1…] name the command: 0 when they don't.
static int words_matched(const tob_ctl_command *command, int argc, char **argv) {
    if (argc > 2 && begins_with(command, argv[1], argv[2])) {
        return 2;
    }
    return argc > 1 && strcmp(command->name, argv[1]) == 0 ? 1 : 0;
}

static const tob_ctl_command *find(int argc, char **argv, int *ret_words) {
    for (size_t i = 0; i < tob_ctl_all_command_count; i++) {
        for (size_t j = 0; j < tob_ctl_all_commands[i]->count; j++) {
            const tob_ctl_command *command = &tob_ctl_all_commands[i]->list[j];
            *ret_words = words_matched(command, argc, argv);
            if (*ret_words) {
                return command;
            }
        }
    }
    return NULL;
}

// argv names no command.
static int say_what_there_is(int argc, char **argv) {
    if (argc < 2) {
        return usage(stderr, NULL, TOB_EXIT_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        return usage(stdout, NULL, 0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf(TOB_CTL_PROGRAM " %s\n", TOB_VERSION);
        return 0;
    }
    if (!is_group(argv[1])) {
        fprintf(stderr, TOB_CTL_PROGRAM ": no command '%s'; see --help\n", argv[1]);
        return TOB_EXIT_USAGE;
    }
    if (argc > 2 && strcmp(argv[2], "--help") == 0) {
        return usage(stdout, argv[1], 0);
    }
    if (argc > 2) {
        fprintf(stderr, TOB_CTL_PROGRAM ": no command '%s %s'; see " TOB_CTL_PROGRAM " %s --help\n", argv[1],
                argv[2], argv[1]);
        return TOB_EXIT_USAGE;
    }
    return usage(stderr, argv[1], TOB_EXIT_USAGE);
}

int tob_ctl_main(int argc, char **argv) {
    int words = 0;
    const tob_ctl_command *command = find(argc, argv, &words);
    return command ? command->run(command, argc - words, argv + words) : say_what_there_is(argc, argv);
}

int tob_ctl_parse(const tob_command *command, int argc, char **argv, char **ret_argument) {
    char **args = NULL;
    size_t arg_count = 0;
    int status = tob_options_parse(command, argc, argv, &args, &arg_count);
    if (status < 0 && ret_argument) {
        *ret_argument = args[0]; // min_args is 1
    }
    return status;
}

int tob_ctl_no_memory(void) {
    fprintf(stderr, TOB_CTL_PROGRAM ": out of memory\n");
    return 1;
}
