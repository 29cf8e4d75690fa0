#include "ctl/journal.h"

#include <stdio.h>
#include <sys/stat.h>

#include "ctl/output.h"

#define PATH_BYTES 4096

// The journal: the argument itself, or, of a state directory, the journal in it.
static void find_dir(const char *argument, char ret[PATH_BYTES]) {
    struct stat st;
    int n = snprintf(ret, PATH_BYTES, "%s/journal", argument);
    if (n >= PATH_BYTES || stat(ret, &st) || !S_ISDIR(st.st_mode)) {
        snprintf(ret, PATH_BYTES, "%s", argument);
    }
}

int tob_ctl_journal_failed(tob_error err, const tob_journal_problem *problem) {
    fprintf(stderr, TOB_CTL_PROGRAM ": %s%s\n", problem->text[0] ? problem->text : tob_error_string(err),
            err == TOB_BUSY ? " (is ingestd running?)" : "");
    return 1;
}

int tob_ctl_journal_run(const tob_command *command, int argc, char **argv, tob_ctl_journal_fn fn,
                        const void *settings) {
    char *argument = NULL;
    int status = tob_ctl_parse(command, argc, argv, &argument);
    if (status >= 0) {
        return status;
    }
    char dir[PATH_BYTES];
    tob_ctl_journal_records records;
    tob_journal_problem none = {""};
    find_dir(argument, dir);
    tob_error err = tob_ctl_journal_records_init(&records);
    status = err ? tob_ctl_journal_failed(err, &none) : fn(settings, dir, &records);
    tob_ctl_journal_records_fini(&records);
    return status;
}

int tob_ctl_journal_read(const char *dir, tob_ctl_journal_records *records, tob_verify *ret) {
    tob_verify_options options = {.dir = dir,
                                  .record = tob_ctl_check_record,
                                  .checkpoint_record = tob_ctl_check_checkpoint_record,
                                  .user = records};
    tob_journal_problem problem = {""};
    tob_error err = tob_verify_run(&options, ret, &problem);
    return err ? tob_ctl_journal_failed(err, &problem) : 0;
}

const char *tob_ctl_journal_range(const tob_verify_hole *hole, char to[TOB_CTL_JOURNAL_RANGE_BYTES]) {
    char from[TOB_TIME_TEXT_BYTES], until[TOB_TIME_TEXT_BYTES];
    tob_ctl_time(hole->before_unix_ms, from);
    tob_ctl_time(hole->after_unix_ms, until);
    if (*from && *until) {
        snprintf(to, TOB_CTL_JOURNAL_RANGE_BYTES, ", received between %s and %s", from, until);
    } else if (*from || *until) {
        snprintf(to, TOB_CTL_JOURNAL_RANGE_BYTES, ", received %s %s", *from ? "after" : "before",
                 *from ? from : until);
    } else {
        to[0] = 0;
    }
    return to;
}

json_t *tob_ctl_journal_place(tob_position at) {
    return json_pack("{s:I, s:I}", "segment", (json_int_t)at.segment, "offset", (json_int_t)at.offset);
}

uint64_t tob_ctl_journal_record_count(const tob_verify *verify) {
    uint64_t records = 0;
    for (size_t i = 0; i < verify->segment_count; i++) {
        records += verify->segments[i].records;
    }
    return records;
}

uint64_t tob_ctl_journal_torn_bytes(const tob_verify *verify) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < verify->segment_count; i++) {
        bytes += verify->segments[i].torn_bytes;
    }
    return bytes;
}

static const tob_ctl_command commands[] = {
    {"journal inspect", tob_ctl_journal_inspect, "tell what is in a journal's files", NULL},
    {"journal verify", tob_ctl_journal_verify, "read all of a journal's files and tell every damage", NULL},
    {"journal repair", tob_ctl_journal_repair, "set damaged files aside and keep what can be read", NULL},
};
const tob_ctl_commands tob_ctl_journal_commands = {commands, sizeof(commands) / sizeof(commands[0])};
