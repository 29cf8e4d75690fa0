#include <inttypes.h>
#include <stdio.h>

#include "ctl/journal.h"
#include "ctl/output.h"

// ---- records, one a line

typedef struct printing {
    bool json;
    tob_position last; // what is being written is looked at more than once
} printing;

static void print_record(void *user, tob_position at, const tob_ctl_record *r) {
    printing *p = user;
    char received[TOB_TIME_TEXT_BYTES], boot[20] = "";
    if (tob_position_compare(at, p->last) <= 0) {
        return;
    }
    p->last = at;
    if (*r->agent_id) {
        snprintf(boot, sizeof(boot), "%016" PRIx64, r->boot_id);
    }
    if (!p->json) {
        printf("%" PRIu64 ":%-10" PRIu64 " %-20s %-9s", at.segment, at.offset,
               r->received_unix_ms ? tob_ctl_time(r->received_unix_ms, received) : "-", r->kind);
        if (*r->agent_id) {
            printf(" agent=%s boot=%s number=%" PRIu64 " series=%zu samples=%" PRIu64, r->agent_id, boot,
                   r->number, r->series, r->samples);
        } else if (r->series) {
            printf(" count=%zu", r->series);
        }
        printf(" bytes=%zu\n", r->bytes);
        return;
    }
    json_t *line =
        json_pack("{s:I, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "segment", (json_int_t)at.segment,
                  "offset", (json_int_t)at.offset, "received_unix_ms", (json_int_t)r->received_unix_ms,
                  "kind", r->kind, "agent_id", r->agent_id, "boot_id", boot, "number", (json_int_t)r->number,
                  "series", (json_int_t)r->series, "samples", (json_int_t)r->samples, "bytes",
                  (json_int_t)r->bytes);
    json_dumpf(line, stdout, JSON_COMPACT); // a failed write stays in ferror(stdout)
    putchar('\n');
    json_decref(line);
}

// ---- everything else

static json_t *segments_json(const tob_verify *v) {
    json_t *array = json_array();
    for (size_t i = 0; i < v->segment_count; i++) {
        const tob_verify_file *s = &v->segments[i];
        size_t damages = s->hole_count + (s->header != NULL) + s->missing;
        json_t *o =
            json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "segment", (json_int_t)s->at.segment,
                      "file", s->name, "bytes", (json_int_t)s->bytes, "records", (json_int_t)s->records,
                      "first_received_unix_ms", (json_int_t)s->first_unix_ms, "last_received_unix_ms",
                      (json_int_t)s->last_unix_ms, "end", (json_int_t)s->end, "damages", (json_int_t)damages);
        if (json_array_append_new(array, o)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *checkpoints_json(const tob_verify *v, const tob_ctl_journal_records *records) {
    json_t *array = json_array();
    for (size_t i = 0; i < v->checkpoint_count; i++) {
        static const tob_ctl_checkpoint nothing = {.created_unix_ms = 0};
        const tob_verify_file *c = &v->checkpoints[i];
        const tob_ctl_checkpoint *facts = tob_ctl_checkpoint_at(records, c->at);
        facts = facts ? facts : &nothing;
        size_t damages = c->hole_count + (c->header != NULL) + (c->place && i == 0);
        json_t *o =
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", c->name,
                      "segment", (json_int_t)c->at.segment, "offset", (json_int_t)c->at.offset, "bytes",
                      (json_int_t)c->bytes, "created_unix_ms", (json_int_t)facts->created_unix_ms, "clients",
                      (json_int_t)facts->clients, "headends", (json_int_t)facts->headends, "senders",
                      (json_int_t)facts->senders, "consumers", (json_int_t)facts->consumers, "stored_batches",
                      (json_int_t)facts->stored_batches, "stored_samples", (json_int_t)facts->stored_samples,
                      "damages", (json_int_t)damages);
        if (json_array_append_new(array, o)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *consumers_json(const tob_ctl_journal_records *records) {
    json_t *array = json_array();
    for (size_t i = 0; i < records->consumer_count; i++) {
        const tob_ctl_consumer *c = &records->consumers[i];
        if (!c->position.segment) {
            continue;
        }
        json_t *o = json_pack("{s:s, s:I, s:I}", "name", c->name, "segment", (json_int_t)c->position.segment,
                              "offset", (json_int_t)c->position.offset);
        if (json_array_append_new(array, o)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static void print_table(const char *title, const tob_ctl_column *columns, size_t count, const json_t *rows) {
    tob_ctl_table table = {.columns = columns, .column_count = count};
    if (json_array_size(rows) > 0) {
        printf("\n%s\n", title);
        tob_ctl_print_page(&table, rows);
    }
}

#define TABLE(title, columns, rows) print_table(title, columns, sizeof(columns) / sizeof(columns[0]), rows)

static int print_text(const char *dir, const tob_verify *v, const json_t *all) {
    static const tob_ctl_column segments[] = {
        {"SEGMENT", "segment"},
        {"RECORDS", "records"},
        {"BYTES", "bytes"},
        {"END", "end"},
        {"FIRST RECEIVED", "first_received_unix_ms"},
        {"LAST RECEIVED", "last_received_unix_ms"},
        {"FILE", "file"},
    };
    static const tob_ctl_column checkpoints[] = {
        {"SEGMENT", "segment"},     {"OFFSET", "offset"},     {"CREATED", "created_unix_ms"},
        {"CLIENTS", "clients"},     {"HEADENDS", "headends"}, {"SENDERS", "senders"},
        {"CONSUMERS", "consumers"}, {"BYTES", "bytes"},
    };
    static const tob_ctl_column consumers[] = {{"CONSUMER", "name"},
                                               {"SEGMENT", "segment"},
                                               {"OFFSET", "offset"}};
    printf("%s%s\n", dir, v->in_use ? ": another process has it open" : "");
    TABLE("Segments", segments, json_object_get(all, "segments"));
    TABLE("Checkpoints", checkpoints, json_object_get(all, "checkpoints"));
    TABLE("Consumers", consumers, json_object_get(all, "consumers"));
    if (v->damages) {
        printf("\n%zu damages; see " TOB_CTL_PROGRAM " journal verify %s\n", v->damages, dir);
    }
    return tob_ctl_finish(0);
}

static int print_all(const char *dir, bool json, const tob_verify *v,
                     const tob_ctl_journal_records *records) {
    json_t *all =
        json_pack("{s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "dir", dir, "in_use", v->in_use, "damages",
                  (json_int_t)v->damages, "torn_bytes", (json_int_t)tob_ctl_journal_torn_bytes(v), "oldest",
                  tob_ctl_journal_place(tob_verify_oldest(v)), "end",
                  tob_ctl_journal_place(tob_verify_end(v)), "segments", segments_json(v), "checkpoints",
                  checkpoints_json(v, records), "consumers", consumers_json(records));
    if (json || !all) {
        return tob_ctl_print_json(all);
    }
    int status = print_text(dir, v, all);
    json_decref(all);
    return status;
}

typedef struct settings {
    bool json;
    bool each_record;
} settings;

static int inspect(const void *user, const char *dir, tob_ctl_journal_records *records) {
    const settings *s = user;
    printing p = {.json = s->json};
    tob_verify v = {.damages = 0};
    records->on_record = s->each_record ? print_record : NULL;
    records->user = &p;
    int status = tob_ctl_journal_read(dir, records, &v);
    if (status == 0) {
        status = s->each_record ? tob_ctl_finish(0) : print_all(dir, s->json, &v, records);
        tob_verify_fini(&v);
    }
    return status;
}

int tob_ctl_journal_inspect(const tob_ctl_command *self, int argc, char **argv) {
    settings s = {.json = false};
    const tob_option options[] = {
        {.name = "records",
         .kind = TOB_OPTION_FLAG,
         .target = &s.each_record,
         .help = "Print the records, one a line, and nothing else."},
        TOB_CTL_JSON_OPTION(&s.json),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT(TOB_CTL_JOURNAL_ARGUMENT),
        .description =
            "DIR is ingestd's state directory, or the journal in it. Changes nothing, and may be used while "
            "ingestd runs.",
        .examples = "  tobogganctl journal inspect /var/lib/tobogganing\n"
                    "  tobogganctl journal inspect --records --json /var/lib/tobogganing | grep agent-7",
        TOB_CTL_OPTIONS(options),
    };
    return tob_ctl_journal_run(&command, argc, argv, inspect, &s);
}
