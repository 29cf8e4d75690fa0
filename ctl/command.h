// The commands of tobogganctl: a table for each kind of thing they work on, from which usage is printed.
//
// Threads: main thread.
#ifndef TOB_CTL_COMMAND_H
#define TOB_CTL_COMMAND_H

#include <stddef.h>

#include "util/options.h"

#define TOB_CTL_PROGRAM "tobogganctl"

typedef struct tob_ctl_command tob_ctl_command;

struct tob_ctl_command {
    const char *name; // "client add", or one word
    // argv[0] is skipped. Returns the exit status.
    int (*run)(const tob_ctl_command *self, int argc, char **argv);
    const char *help; // one line
    const void *spec; // for a `run` that serves several commands: what is different
};

typedef struct tob_ctl_commands {
    const tob_ctl_command *list;
    size_t count;
} tob_ctl_commands;

extern const tob_ctl_commands tob_ctl_audit_commands;
extern const tob_ctl_commands tob_ctl_cert_commands;
extern const tob_ctl_commands tob_ctl_client_commands;
extern const tob_ctl_commands tob_ctl_cluster_commands;
extern const tob_ctl_commands tob_ctl_consumer_commands;
extern const tob_ctl_commands tob_ctl_headend_commands;
extern const tob_ctl_commands tob_ctl_health_commands;
extern const tob_ctl_commands tob_ctl_journal_commands;
extern const tob_ctl_commands tob_ctl_signing_key_commands;

// All of these, in the order of --help.
extern const tob_ctl_commands *const tob_ctl_all_commands[];
extern const size_t tob_ctl_all_command_count;

// tob_ctl_main runs the command that argv names, or prints what there is. Returns the exit status.
int tob_ctl_main(int argc, char **argv);

// How a command is described to tob_options_parse: the start of the initializer of a tob_command.
#define TOB_CTL_COMMAND(self) .program = TOB_CTL_PROGRAM, .name = (self)->name, .summary = (self)->help
// The options of one, when they are an array.
#define TOB_CTL_OPTIONS(options_)                                                                            \
    .options = (options_), .option_count = sizeof(options_) / sizeof((options_)[0])
// A command with exactly one argument.
#define TOB_CTL_ARGUMENT(name_) .arguments = (name_), .min_args = 1, .max_args = 1

// tob_ctl_parse is tob_options_parse for a command that has one argument or none.
//   ret_argument   set to it; NULL for a command that has none
TOB_MUST_USE int tob_ctl_parse(const tob_command *command, int argc, char **argv, char **ret_argument);

// tob_ctl_no_memory says so and returns 1.
int tob_ctl_no_memory(void);

int tob_ctl_client_delete(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_client_export(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_client_import(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_journal_inspect(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_journal_repair(const tob_ctl_command *self, int argc, char **argv);
int tob_ctl_journal_verify(const tob_ctl_command *self, int argc, char **argv);

#endif
