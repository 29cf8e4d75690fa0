// damage lets a store write a small journal and its checkpoints, then cuts every file at every byte, flips every bit of
// every file, makes zeros of every sector, and takes files away, and starts on each of that. A start may have
//
// - everything that was acknowledged;
// - after a cut in the last segment: every group that lies before the cut, and of the one in which it lies some records from
//   the first on (a crash leaves the same, so it can't be told);
// - after another damage in the last group: all groups before it, likewise;
// - or it refuses, and says in which file at which offset.
//
// It never has anything else. The files are on a file system in memory: what is on the disk is made here, by hand.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare.h"
#include "scratch.h"
#include "script.h"

enum { SECTOR = 512 };
enum { MAX_STATES = SCRIPT_MAX_STEPS * SCRIPT_GROUP_ITEMS + 1 };

// The store after one record more.
typedef struct after {
    plain_state state;
    unsigned group;         // that the record is of; 0: before the first
    tob_position group_end; // a place behind the record, at its group's end
} after;

// A run of the script's first steps.
typedef struct written {
    const char *name;
    size_t steps;
    bool checkpoints;
    scratch_files files;
    size_t count;
    after after[MAX_STATES];
} written;

static struct {
    char dir[SCRATCH_PATH_BYTES];
    rig rig;
    char what[256]; // is being tried
    unsigned long starts, refused, shortened;
    unsigned part, parts; // of the flips
    bool ok;
} run;

static void say_case(int signal_number) {
    (void)signal_number;
    if (write(STDERR_FILENO, run.what, strlen(run.what)) < 0 || write(STDERR_FILENO, ": crashed\n", 10) < 0) {
        _exit(3);
    }
    _exit(2);
}

static void must(tob_error err, const rig *r) {
    if (err) {
        fprintf(stderr, "%s: %s\n", tob_error_string(err), r->problem.text);
        exit(2);
    }
}

static bool wanted(const written *w, const script_step *step) {
    return w->checkpoints || step->kind == SCRIPT_GROUP || step->kind == SCRIPT_RESTART;
}

static void write_it(written *w) {
    static plain_state state;
    rig *r = &run.rig;
    unsigned group = 0;
    scratch_empty(run.dir);
    must(rig_open(r), r);
    plain_init(&state);
    w->after[w->count++] = (after){.state = state};
    for (size_t i = 0; i < w->steps; i++) {
        const script_step *step = &script_get()->steps[i];
        bool repeated[SCRIPT_GROUP_ITEMS] = {0};
        if (!wanted(w, step)) {
            continue;
        }
        must(script_do(r, step, repeated), r);
        tob_store_stats stats;
        tob_store_get_stats(r->store, &stats);
        group += step->kind == SCRIPT_GROUP;
        for (unsigned k = 0; k < step->n; k++) {
            if (!repeated[k]) {
                plain_apply(&state, &step->items[k]);
                w->after[w->count++] = (after){state, group, stats.end};
            }
        }
    }
    rig_crash(r);
    w->files = scratch_read(run.dir);
}

// ---- one start

static void report(const char *text) {
    printf("FAILED: %s: %s\n", run.what, text);
    run.ok = false;
}

// The state that the store has, of those from `least` to `most` the newest that is like it; -1: none of all.
static long state_of(const written *w, tob_store *store, long least, long most,
                     char text[COMPARE_TEXT_BYTES]) {
    for (long i = most; i >= least; i--) {
        if (compare_store(store, &w->after[i].state, text)) {
            return i;
        }
    }
    for (long i = 0; i < (long)w->count; i++) {
        if (compare_store(store, &w->after[i].state, text)) {
            return i;
        }
    }
    return -1;
}

// A place that is in a file, as far as a person needs it.
static bool names_place(const char *text) {
    return strstr(text, ".seg at offset ") || strstr(text, ".ckpt at offset ");
}

// Starts on what is in the directory. `least`: what it must have if it starts at all.
static void try_start(const written *w, long least, long most) {
    char text[COMPARE_TEXT_BYTES] = "";
    rig *r = &run.rig;
    long first = -1;
    for (int start = 0; start < 2; start++) {
        r->problem.text[0] = 0;
        tob_error err = rig_open(r);
        run.starts++;
        if (err) {
            run.refused++;
            if (start == 1 || !names_place(r->problem.text)) {
                snprintf(text, sizeof(text), "start %d: %s: \"%.300s\"", start + 1, tob_error_string(err),
                         r->problem.text);
                report(text);
            }
            return;
        }
        long is = state_of(w, r->store, least, most, text);
        rig_crash(r);
        if (is < least || is > most || (start == 1 && is != first)) {
            char more[COMPARE_TEXT_BYTES * 2];
            snprintf(more, sizeof(more), "start %d has state %ld, not one of %ld to %ld; to the newest: %s",
                     start + 1, is, least, most, text);
            report(more);
            return;
        }
        first = is;
        if (is == (long)w->count - 1) {
            return; // a second start has nothing to add
        }
        run.shortened++;
    }
}

// ---- the damages

static bool is_last_segment(const written *w, size_t file) {
    return file + 1 == w->files.count; // by name, checkpoints are first
}

// What every start must have but for the last group.
static long before_last_group(const written *w) {
    long i = (long)w->count - 1;
    while (i > 0 && w->after[i].group == w->after[w->count - 1].group) {
        i--;
    }
    return i;
}

// What lies before a place of the last segment, whole groups only.
static long before_place(const written *w, tob_position at) {
    long i = (long)w->count - 1;
    while (i > 0 && tob_position_compare(w->after[i].group_end, at) > 0) {
        i--;
    }
    return i;
}

// With the group after state i.
static long with_next_group(const written *w, long i) {
    long last = (long)w->count - 1, most = i;
    while (most < last && w->after[most + 1].group == w->after[i + 1].group) {
        most++;
    }
    return most;
}

static void cut_files(const written *w) {
    size_t damaged = 0;
    scratch_write_all(run.dir, &w->files);
    for (size_t f = 0; f < w->files.count; f++) {
        const scratch_file *file = &w->files.files[f];
        for (size_t n = run.part; n < file->n; n += run.parts) {
            long least = (long)w->count - 1, most = least;
            if (is_last_segment(w, f)) {
                tob_position at = {w->after[w->count - 1].group_end.segment, n};
                least = before_place(w, at);
                most = with_next_group(w, least);
            }
            snprintf(run.what, sizeof(run.what), "%s, %s cut at %zu", w->name, file->name, n);
            scratch_restore(run.dir, &w->files, damaged,
                            w->files.count - 1); // a start changes the last segment
            scratch_write(run.dir, file->name, file->bytes, n);
            damaged = f;
            try_start(w, least, most);
        }
    }
}

static void flip_bits(const written *w) {
    for (size_t f = 0; f < w->files.count; f++) {
        scratch_write_all(run.dir, &w->files);
        scratch_file *file = &w->files.files[f];
        for (size_t bit = run.part; bit < file->n * 8; bit += run.parts) {
            snprintf(run.what, sizeof(run.what), "%s, %s with bit %zu of byte %zu flipped", w->name,
                     file->name, bit % 8, bit / 8);
            file->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            scratch_restore(run.dir, &w->files, f, w->files.count - 1);
            file->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            long newest = (long)w->count - 1;
            try_start(w, is_last_segment(w, f) ? before_last_group(w) : newest, newest);
        }
    }
}

// A sector that reads as zeros is what a crash leaves of a group that was not synced; but not when another group follows.
static void lose_sectors(const written *w) {
    long newest = (long)w->count - 1;
    tob_position last_group = w->after[before_last_group(w)].group_end; // where it begins
    for (size_t f = 0; f < w->files.count; f++) {
        scratch_file *file = &w->files.files[f];
        for (size_t from = 0; from < file->n; from += SECTOR) {
            uint8_t kept[SECTOR];
            size_t n = file->n - from < SECTOR ? file->n - from : SECTOR;
            tob_position at = {w->after[newest].group_end.segment, from}, end = {at.segment, from + n};
            bool may_be_torn = is_last_segment(w, f) && tob_position_compare(last_group, end) < 0;
            snprintf(run.what, sizeof(run.what), "%s, %s with zeros from %zu", w->name, file->name, from);
            memcpy(kept, file->bytes + from, n);
            memset(file->bytes + from, 0, n);
            scratch_write_all(run.dir, &w->files);
            memcpy(file->bytes + from, kept, n);
            try_start(w, may_be_torn ? before_place(w, at) : newest, newest);
        }
    }
}

// Whether a last segment was there can't be told from the others: then what it had is missing, from its beginning on.
static void take_away(const written *w) {
    for (size_t f = 0; f < w->files.count; f++) {
        const scratch_file *file = &w->files.files[f];
        char path[SCRATCH_PATH_BYTES + sizeof(file->name)];
        long newest = (long)w->count - 1, least = newest;
        if (is_last_segment(w, f)) {
            tob_position begin = {w->after[newest].group_end.segment, 0};
            least = before_place(w, begin);
        }
        snprintf(run.what, sizeof(run.what), "%s without %s", w->name, file->name);
        scratch_write_all(run.dir, &w->files);
        snprintf(path, sizeof(path), "%s/%s", run.dir, file->name);
        unlink(path);
        unsigned long refused = run.refused;
        try_start(w, least, newest);
        if (strstr(file->name, ".ckpt") && run.refused > refused) {
            report("refused, although the rest is enough");
        }
    }
}

// Without checkpoints, the journal must not be taken for all that there was when its beginning is not there any more.
static void take_checkpoints_away(const written *w) {
    snprintf(run.what, sizeof(run.what), "%s without any checkpoint", w->name);
    scratch_write_all(run.dir, &w->files);
    for (size_t f = 0; f < w->files.count; f++) {
        char path[SCRATCH_PATH_BYTES + sizeof(w->files.files[f].name)];
        if (strstr(w->files.files[f].name, ".ckpt")) {
            snprintf(path, sizeof(path), "%s/%s", run.dir, w->files.files[f].name);
            unlink(path);
        }
    }
    try_start(w, (long)w->count - 1, (long)w->count - 1);
}

static void try_all(written *w) {
    size_t bytes = 0;
    write_it(w);
    for (size_t f = 0; f < w->files.count; f++) {
        bytes += w->files.files[f].n;
    }
    unsigned long before = run.starts;
    snprintf(run.what, sizeof(run.what), "%s, undamaged", w->name);
    scratch_write_all(run.dir, &w->files);
    try_start(w, (long)w->count - 1, (long)w->count - 1);
    take_away(w);
    take_checkpoints_away(w);
    lose_sectors(w);
    cut_files(w);
    flip_bits(w);
    printf("%s: %zu files, %zu bytes, %zu records: %lu starts\n", w->name, w->files.count, bytes,
           w->count - 1, run.starts - before);
    fflush(stdout);
    scratch_forget(&w->files);
}

// The steps of the script up to and with the nth of a kind, and `more`.
static size_t steps_to(script_step_kind kind, unsigned nth, size_t more) {
    const script *s = script_get();
    for (size_t i = 0; i < s->count; i++) {
        if (s->steps[i].kind == kind && --nth == 0) {
            return i + 1 + more < s->count ? i + 1 + more : s->count;
        }
    }
    return s->count;
}

int main(int argc, char **argv) {
    static written all[3];
    run.ok = true;
    run.parts = 1;
    if (argc == 3) {
        run.part = (unsigned)strtoul(argv[1], NULL, 10);
        run.parts = (unsigned)strtoul(argv[2], NULL, 10);
    }
    if ((argc != 1 && argc != 3) || run.parts == 0 || run.part >= run.parts) {
        printf("Usage: torture_damage [PART PARTS]\nPART of PARTS of the cuts and flips; without: all of "
               "them.\n");
        return 2;
    }
    signal(SIGSEGV, say_case);
    signal(SIGABRT, say_case);
    scratch_new(run.dir);
    rig_init(&run.rig, run.dir, SCRIPT_SEGMENT_BYTES, TOB_JOURNAL_SYNC_ALWAYS);
    all[0] = (written){.name = "a journal", .steps = 14};
    all[1] = (written){.name = "a checkpoint", .steps = steps_to(SCRIPT_COMMIT, 1, 2), .checkpoints = true};
    all[2] = (written){.name = "two checkpoints and an old segment gone",
                       .steps = steps_to(SCRIPT_COMMIT, 2, 2),
                       .checkpoints = true};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        try_all(&all[i]);
    }
    rig_fini(&run.rig);
    scratch_remove(run.dir);
    printf("%lu starts, %lu refused, %lu with less than all: %s\n", run.starts, run.refused, run.shortened,
           run.ok ? "never anything that was not" : "FAILED");
    return run.ok ? 0 : 1;
}
