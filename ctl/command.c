#include "ctl/command.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const tob_ctl_command tob_ctl_commands[] = {
    {"client", "add", tob_ctl_client_add, "register a client and print its API key"},
    {"client", "list", tob_ctl_client_list, "list the registered clients"},
    {"client", "revoke", tob_ctl_client_revoke, "refuse a client's API key from now on"},
    {"client", "delete", tob_ctl_client_delete, "delete a client and its last values"},
    {"cluster", "add", tob_ctl_cluster_add, "register a cluster"},
    {"cluster", "list", tob_ctl_cluster_list, "list the registered clusters"},
    {"consumer", "list", tob_ctl_consumer_list, "list the readers of the journal and how far they are"},
    {"consumer", "forget", tob_ctl_consumer_forget, "forget a reader's position"},
    {"headend", "add", tob_ctl_headend_add, "register a headend"},
    {"headend", "list", tob_ctl_headend_list, "list the registered headends"},
    {"headend", "token", tob_ctl_headend_token, "print a token for a headend"},
    {"headend", "delete", tob_ctl_headend_delete, "delete a headend and its last values"},
    {"journal", "inspect", tob_ctl_journal_inspect, "tell what is in a journal's files"},
    {"journal", "verify", tob_ctl_journal_verify, "read all of a journal's files and tell every damage"},
    {"journal", "repair", tob_ctl_journal_repair, "set damaged files aside and keep what can be read"},
    {NULL, "health", tob_ctl_health, "say whether ingestd serves; the exit status says it too"},
    {NULL, "status", tob_ctl_status, "print what ingestd tells about itself"},
};
const size_t tob_ctl_command_count = sizeof(tob_ctl_commands) / sizeof(tob_ctl_commands[0]);

static bool same(const char *a, const char *b) {
    return a && b && strcmp(a, b) == 0;
}

// Prints the commands of one group, or all of them when group is NULL.
static int usage(FILE *to, const char *group, int status) {
    fprintf(to, "Usage: " TOB_CTL_PROGRAM " %s%sCOMMAND [OPTION]…\n\nCommands:\n", group ? group : "",
            group ? " " : "");
    for (size_t i = 0; i < tob_ctl_command_count; i++) {
        const tob_ctl_command *c = &tob_ctl_commands[i];
        if (!group || same(group, c->group)) {
            char name[32];
            snprintf(name, sizeof(name), "%s%s%s", c->group ? c->group : "", c->group ? " " : "", c->name);
            fprintf(to, "  %-16s %s\n", name, c->help);
        }
    }
    fprintf(to, "\nOptions: " TOB_CTL_PROGRAM " COMMAND --help; --version\n");
    return status;
}

static bool is_group(const char *name) {
    for (size_t i = 0; i < tob_ctl_command_count; i++) {
        if (same(tob_ctl_commands[i].group, name)) {
            return true;
        }
    }
    return false;
}

// How many words at argv[1…] name the command: 0 when they don't.
static int words_matched(const tob_ctl_command *command, int argc, char **argv) {
    if (!command->group) {
        return argc > 1 && same(command->name, argv[1]) ? 1 : 0;
    }
    return argc > 2 && same(command->group, argv[1]) && same(command->name, argv[2]) ? 2 : 0;
}

int tob_ctl_main(int argc, char **argv) {
    for (size_t i = 0; i < tob_ctl_command_count; i++) {
        int words = words_matched(&tob_ctl_commands[i], argc, argv);
        if (words) {
            return tob_ctl_commands[i].run(argc - words, argv + words);
        }
    }
    if (argc < 2) {
        return usage(stderr, NULL, TOB_EXIT_USAGE);
    }
    if (same(argv[1], "--help") || same(argv[1], "help")) {
        return usage(stdout, NULL, 0);
    }
    if (same(argv[1], "--version")) {
        printf(TOB_CTL_PROGRAM " %s\n", TOB_VERSION);
        return 0;
    }
    if (!is_group(argv[1])) {
        fprintf(stderr, TOB_CTL_PROGRAM ": no command '%s'; see --help\n", argv[1]);
        return TOB_EXIT_USAGE;
    }
    if (argc > 2 && same(argv[2], "--help")) {
        return usage(stdout, argv[1], 0);
    }
    if (argc > 2) {
        fprintf(stderr, TOB_CTL_PROGRAM ": no command '%s %s'; see " TOB_CTL_PROGRAM " %s --help\n", argv[1],
                argv[2], argv[1]);
        return TOB_EXIT_USAGE;
    }
    return usage(stderr, argv[1], TOB_EXIT_USAGE);
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
