// The commands of tobogganctl: a table of {group, name, function, help}, from which usage is printed.
//
// Threads: main thread.
#ifndef TOB_CTL_COMMAND_H
#define TOB_CTL_COMMAND_H

#include <stddef.h>

#include "util/options.h"

#define TOB_CTL_PROGRAM "tobogganctl"

typedef struct tob_ctl_command {
    const char *group; // "client"; NULL for a command by itself
    const char *name;  // "add"
    // argv[0] is skipped. Returns the exit status.
    int (*run)(int argc, char **argv);
    const char *help;
} tob_ctl_command;

extern const tob_ctl_command tob_ctl_commands[];
extern const size_t tob_ctl_command_count;

// tob_ctl_main runs the command that argv names, or prints what there is. Returns the exit status.
int tob_ctl_main(int argc, char **argv);

// tob_ctl_parse is tob_options_parse for a command that has one argument or none.
//   ret_argument   set to it; NULL for a command that has none
TOB_MUST_USE int tob_ctl_parse(const tob_command *command, int argc, char **argv, char **ret_argument);

int tob_ctl_client_add(int argc, char **argv);
int tob_ctl_client_list(int argc, char **argv);
int tob_ctl_client_revoke(int argc, char **argv);
int tob_ctl_client_delete(int argc, char **argv);
int tob_ctl_cluster_add(int argc, char **argv);
int tob_ctl_cluster_list(int argc, char **argv);
int tob_ctl_consumer_forget(int argc, char **argv);
int tob_ctl_consumer_list(int argc, char **argv);
int tob_ctl_headend_add(int argc, char **argv);
int tob_ctl_headend_delete(int argc, char **argv);
int tob_ctl_headend_list(int argc, char **argv);
int tob_ctl_headend_token(int argc, char **argv);
int tob_ctl_journal_inspect(int argc, char **argv);
int tob_ctl_journal_repair(int argc, char **argv);
int tob_ctl_journal_verify(int argc, char **argv);
int tob_ctl_health(int argc, char **argv);
int tob_ctl_status(int argc, char **argv);

#endif
