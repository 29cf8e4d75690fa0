#include <inttypes.h>
#include <stdio.h>

#include "ctl/journal.h"
#include "ctl/output.h"

static void print_damage(void *user, const tob_verify_file *file, uint64_t offset, uint64_t bytes,
                         const char *reason) {
    char range[TOB_CTL_JOURNAL_RANGE_BYTES] = "";
    for (size_t i = 0; i < file->hole_count; i++) {
        if (file->holes[i].offset == offset && file->holes[i].reason == reason) {
            tob_ctl_journal_range(&file->holes[i], range);
        }
    }
    printf("%s/%s at offset %" PRIu64 ": %s", (const char *)user, file->name, offset, reason);
    if (bytes) {
        printf(" (%" PRIu64 " bytes%s)", bytes, range);
    }
    putchar('\n');
}

static int print_text(const char *dir, const tob_verify *v) {
    tob_position oldest = tob_verify_oldest(v), end = tob_verify_end(v);
    uint64_t torn = tob_ctl_journal_torn_bytes(v);
    tob_verify_each_damage(v, print_damage, (void *)dir);
    if (torn) {
        printf("%" PRIu64 " bytes at the end were not finished%s: nothing of them was acknowledged\n", torn,
               v->in_use ? " yet" : " before a crash, and the next start cuts them away");
    }
    printf("%s%zu segments from %" PRIu64 ":%" PRIu64 " to %" PRIu64 ":%" PRIu64 " with %" PRIu64
           " records, %zu checkpoints%s\n",
           v->damages ? "" : "ok: ", v->segment_count, oldest.segment, oldest.offset, end.segment, end.offset,
           tob_ctl_journal_record_count(v), v->checkpoint_count,
           v->in_use ? "; another process has the journal open" : "");
    if (v->damages) {
        printf("%zu damages; to keep what can be read: " TOB_CTL_PROGRAM " journal repair %s\n", v->damages,
               dir);
    }
    return tob_ctl_finish(v->damages ? 1 : 0);
}

static void add_damage(void *user, const tob_verify_file *file, uint64_t offset, uint64_t bytes,
                       const char *reason) {
    json_t *array = user;
    // A failure shows as an array of another length.
    (void)!json_array_append_new(array,
                                 json_pack("{s:s, s:I, s:I, s:s}", "file", file->name, "offset",
                                           (json_int_t)offset, "bytes", (json_int_t)bytes, "reason", reason));
}

static int print_json(const char *dir, const tob_verify *v) {
    json_t *damages = json_array();
    if (damages) {
        tob_verify_each_damage(v, add_damage, damages);
    }
    if (json_array_size(damages) != v->damages) {
        json_decref(damages);
        return tob_ctl_print_json(NULL);
    }
    int status = tob_ctl_print_json(
        json_pack("{s:b, s:s, s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "ok", v->damages == 0, "dir", dir,
                  "in_use", v->in_use, "segments", (json_int_t)v->segment_count, "records",
                  (json_int_t)tob_ctl_journal_record_count(v), "checkpoints", (json_int_t)v->checkpoint_count,
                  "torn_bytes", (json_int_t)tob_ctl_journal_torn_bytes(v), "oldest",
                  tob_ctl_journal_place(tob_verify_oldest(v)), "end",
                  tob_ctl_journal_place(tob_verify_end(v)), "damages", damages));
    return status == 0 && v->damages ? 1 : status;
}

static int verify(const void *json, const char *dir, tob_ctl_journal_records *records) {
    tob_verify v = {.damages = 0};
    int status = tob_ctl_journal_read(dir, records, &v);
    if (status == 0) {
        status = *(const bool *)json ? print_json(dir, &v) : print_text(dir, &v);
        tob_verify_fini(&v);
    }
    return status;
}

int tob_ctl_journal_verify(const tob_ctl_command *self, int argc, char **argv) {
    bool json = false;
    const tob_option options[] = {TOB_CTL_JSON_OPTION(&json)};
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT(TOB_CTL_JOURNAL_ARGUMENT),
        .description =
            "DIR is ingestd's state directory, or the journal in it. Reads every record of every segment "
            "and checkpoint, changes nothing, and may be used while ingestd runs. The exit status is 1 "
            "when there is damage. What a crash leaves at the journal's end is none.",
        .examples = "  tobogganctl journal verify /var/lib/tobogganing",
        TOB_CTL_OPTIONS(options),
    };
    return tob_ctl_journal_run(&command, argc, argv, verify, &json);
}
