#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/journal.h"
#include "ctl/output.h"
#include "util/clock.h"

typedef struct settings {
    bool json;
    bool dry_run;
    bool yes;
    const tob_command *command; // for naming an option that is missing
} settings;

static const char *action_name(tob_repair_action action) {
    switch (action) {
    case TOB_REPAIR_SET_ASIDE: return "set aside";
    case TOB_REPAIR_REWRITE_CHECKPOINT:
    case TOB_REPAIR_REWRITE_SEGMENT: return "write anew with what can be read";
    case TOB_REPAIR_MAKE_CHECKPOINT: return "make, with no rows: no checkpoint can be read any more";
    case TOB_REPAIR_MAKE_SEGMENT: return "make, with nothing in it: it is missing";
    }
    return "";
}

// Bytes of records that a step can't keep.
static uint64_t lost_bytes(const tob_repair_step *step) {
    uint64_t bytes = 0;
    for (size_t i = 0; step->file && i < step->file->hole_count; i++) {
        bytes += step->file->holes[i].end - step->file->holes[i].offset;
    }
    return bytes;
}

// ---- what will be done, for people

static void print_lost(const tob_repair_step *step) {
    char range[TOB_CTL_JOURNAL_RANGE_BYTES];
    const tob_verify_file *f = step->file;
    if (f && f->header) {
        printf("    its header: %s; it gets a new one\n", f->header);
    }
    for (size_t i = 0; f && i < f->hole_count; i++) {
        printf("    %s %" PRIu64 " bytes at offset %" PRIu64 ": %s%s\n",
               step->action == TOB_REPAIR_SET_ASIDE ? "unreadable:" : "lost:",
               f->holes[i].end - f->holes[i].offset, f->holes[i].offset, f->holes[i].reason,
               tob_ctl_journal_range(&f->holes[i], range));
    }
    if (f && f->place) {
        printf("    %s\n", f->place);
    }
}

static void print_plan(const char *dir, const tob_repair_step *steps, size_t count) {
    printf("%s:\n", dir);
    for (size_t i = 0; i < count; i++) {
        printf("  %s: %s\n", steps[i].name, action_name(steps[i].action));
        print_lost(&steps[i]);
    }
    printf("All other records stay as they are, at their places. The damaged files are kept.\n");
}

// ---- and for programs

static json_t *steps_json(const tob_repair_step *steps, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *o = json_pack("{s:s, s:s, s:I}", "file", steps[i].name, "action",
                              action_name(steps[i].action), "lost_bytes", (json_int_t)lost_bytes(&steps[i]));
        if (json_array_append_new(array, o)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static int print_result(const settings *s, const char *dir, const tob_repair_step *steps, size_t count,
                        const char *aside) {
    if (s->json) {
        return tob_ctl_print_json(json_pack("{s:s, s:b, s:s, s:o}", "dir", dir, "repaired", *aside != 0,
                                            "damaged_dir", aside, "steps", steps_json(steps, count)));
    }
    if (*aside) {
        printf("repaired; what was damaged is in %s/%s\n", dir, aside);
    } else {
        printf("%s\n", count ? "nothing was changed" : "nothing to repair");
    }
    return tob_ctl_finish(0);
}

// Asks on the terminal. Without one there has to be --yes.
static int confirm(const tob_command *command, bool *ret) {
    char answer[16] = "";
    if (!isatty(STDIN_FILENO)) {
        return tob_options_error(command, "yes", "is needed where nobody can be asked");
    }
    printf("Go on? [y/N] ");
    fflush(stdout);
    *ret = fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
    return 0;
}

static int repair_found(const settings *s, const char *dir, tob_repair *repair) {
    size_t count = 0;
    const tob_repair_step *steps = tob_repair_steps(repair, &count);
    char aside[TOB_REPAIR_DIR_BYTES] = "";
    tob_journal_problem problem = {""};
    bool go_on = s->yes;
    if (count && !s->json) {
        print_plan(dir, steps, count);
    }
    if (!count || s->dry_run) {
        return print_result(s, dir, steps, count, "");
    }
    int status = go_on ? 0 : confirm(s->command, &go_on);
    if (status || !go_on) {
        return status ? status : print_result(s, dir, steps, count, "");
    }
    tob_error err = tob_repair_apply(repair, tob_clock_unix_ms(), aside, &problem);
    return err ? tob_ctl_journal_failed(err, &problem) : print_result(s, dir, steps, count, aside);
}

static int repair_dir(const void *user, const char *dir, tob_ctl_journal_records *records) {
    tob_repair_options options = {.verify = {.dir = dir,
                                             .record = tob_ctl_check_record,
                                             .checkpoint_record = tob_ctl_check_checkpoint_record,
                                             .user = records},
                                  .filler = tob_ctl_make_filler,
                                  .head = tob_ctl_make_head,
                                  .places = tob_ctl_consumer_places};
    tob_repair *repair = NULL;
    tob_journal_problem problem = {""};
    tob_error err = tob_repair_begin(&options, &repair, &problem);
    int status = err ? tob_ctl_journal_failed(err, &problem) : repair_found(user, dir, repair);
    tob_repair_end(repair);
    return status;
}

int tob_ctl_journal_repair(const tob_ctl_command *self, int argc, char **argv) {
    settings s = {.json = false};
    const tob_option options[] = {
        {.name = "dry-run",
         .kind = TOB_OPTION_FLAG,
         .target = &s.dry_run,
         .help = "Say what would be done, and change nothing."},
        {.name = "yes", .kind = TOB_OPTION_FLAG, .target = &s.yes, .help = "Do not ask."},
        TOB_CTL_JSON_OPTION(&s.json),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT(TOB_CTL_JOURNAL_ARGUMENT),
        .description = "DIR is ingestd's state directory, or the journal in it; ingestd must not run. Makes "
                       "a journal that "
                       "ingestd starts from, with every record that can be read, at its place. Nothing is "
                       "deleted: damaged files "
                       "are kept in a directory damaged-TIME beside it. A repair that was interrupted can "
                       "be repeated, and a "
                       "second one finds nothing to do.",
        .examples = "  tobogganctl journal repair --dry-run /var/lib/tobogganing\n"
                    "  tobogganctl journal repair --yes /var/lib/tobogganing",
        TOB_CTL_OPTIONS(options),
    };
    s.command = &command;
    return tob_ctl_journal_run(&command, argc, argv, repair_dir, &s);
}
