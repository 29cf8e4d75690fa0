// syscalls runs the script (script.h) again and again in a child, each time with another system call of journal and
// checkpoints that fails, is short, or is the last one; then starts again without that and looks at what is there:
//
// - everything that was acknowledged, with its last value, counted once;
// - of the group that was under way when the process ended, some of its records from the first on, or none;
// - nothing of a group that was refused;
// - a second and a third start have the same, and take more.
//
// Until then, what it serves is what it acknowledged. It may end by itself only after a failed sync, which the store calls
// fatal, or when a start was refused.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare.h"
#include "power.h"
#include "scratch.h"
#include "script.h"
#include "shim.h"

enum { EXIT_FATAL = 3, EXIT_REFUSED = 4, EXIT_WRONG = 5 };

typedef struct mode {
    const char *name;
    const char *what; // TOB_SHIM_DO
    bool sticky;
    bool once; // a group that was refused is not tried again
    power power;
    const char *then_kill; // TOB_SHIM_THEN_KILL
    const char *call;      // TOB_SHIM_CALL
    const char *match;     // TOB_SHIM_MATCH
    bool fatal;            // the process must end
} mode;

static const mode modes[] = {
    {.name = "enospc", .what = "enospc"},
    {.name = "enospc-sticky", .what = "enospc", .sticky = true},
    {.name = "eio", .what = "eio", .once = true},
    {.name = "eio-sticky", .what = "eio", .sticky = true},
    {.name = "eio-kill", .what = "eio", .once = true, .then_kill = "8"},
    {.name = "short", .what = "short"},
    {.name = "short-sticky", .what = "short", .sticky = true},
    {.name = "torn", .what = "torn", .once = true},
    {.name = "torn-retried", .what = "torn"},
    {.name = "torn-kill-7", .what = "torn", .once = true, .then_kill = "7"},
    {.name = "torn-kill-8", .what = "torn", .once = true, .then_kill = "8"},
    {.name = "torn-kill-13", .what = "torn", .once = true, .then_kill = "13"},
    {.name = "fdatasync", .what = "eio", .call = "fdatasync", .match = ".seg", .fatal = true},
    {.name = "kill", .what = "kill"},
    {.name = "kill-after", .what = "kill-after"},
    {.name = "kill-within", .what = "kill-within"},
    {.name = "power", .what = "kill", .power = POWER_FAILS},
    {.name = "power-names", .what = "kill", .power = POWER_FAILS_NAMES_STAY},
    {.name = "power-gone", .what = "kill", .power = POWER_FAILS_NAMES_GO},
    {.name = "power-eio", .what = "eio", .sticky = true, .power = POWER_FAILS},
};

// What the child tells about a step: first that it begins, then how it ended.
typedef struct event {
    uint16_t step;
    char what; // b begins, a acknowledged, r refused, f fatal
    bool repeated[SCRIPT_GROUP_ITEMS];
} event;

typedef struct outcome {
    plain_state state;     // of what was acknowledged
    const script_step *on; // was under way, NULL: none
    uint64_t reported[PLAIN_PROCESSES];
    const plain_item *last; // batch that was acknowledged
} outcome;

static struct {
    char dir[SCRATCH_PATH_BYTES];
    char shadow[SCRATCH_PATH_BYTES];
    char count[SCRATCH_PATH_BYTES + 16];
    tob_journal_sync_mode sync;
} run;

// What the child acknowledged, as plain state. False: it said something wrong.
static bool follow(outcome *o, const event *e, char text[COMPARE_TEXT_BYTES]) {
    const script_step *step = &script_get()->steps[e->step];
    o->on = e->what == 'b' || e->what == 'f' ? step : NULL;
    if (step->kind != SCRIPT_GROUP) {
        return true;
    }
    for (unsigned i = 0; i < step->n; i++) {
        const plain_item *item = &step->items[i];
        if (item->kind == PLAIN_COUNTERS && e->what == 'b') {
            o->reported[item->which] = item->count;
        }
        if (e->what != 'a') {
            continue;
        }
        bool repeat = item->kind == PLAIN_BATCH && plain_repeated(&o->state, &item->batch) == PLAIN_YES;
        if (repeat != e->repeated[i]) {
            snprintf(text, COMPARE_TEXT_BYTES, "step %d, item %u: repeated is %d", e->step, i,
                     e->repeated[i]);
            return false;
        }
        if (!repeat) {
            plain_apply(&o->state, item);
        }
        o->last = item->kind == PLAIN_BATCH ? item : o->last;
    }
    return true;
}

static void tell(int fd, const event *e) {
    if (write(fd, e, sizeof(*e)) != (ssize_t)sizeof(*e)) {
        _exit(1);
    }
}

static void child(const mode *m, int events) {
    const script *s = script_get();
    static outcome o;
    char text[COMPARE_TEXT_BYTES];
    rig r;
    plain_init(&o.state);
    rig_init(&r, run.dir, SCRIPT_SEGMENT_BYTES, run.sync);
    if (rig_open(&r)) {
        _exit(EXIT_REFUSED);
    }
    for (size_t i = 0; i < s->count; i++) {
        const script_step *step = &s->steps[i];
        unsigned tries = step->kind == SCRIPT_GROUP && !m->once ? 2 : 1;
        event e = {.step = (uint16_t)i};
        for (unsigned t = 0; t < tries && e.what != 'a'; t++) {
            e.what = 'b';
            tell(events, &e);
            tob_error err = script_do(&r, step, e.repeated);
            e.what = r.fatal ? 'f' : err ? 'r' : 'a';
            tell(events, &e);
            if (r.fatal) {
                _exit(EXIT_FATAL);
            }
            if (err && !r.store) {
                _exit(EXIT_REFUSED);
            }
            if (!follow(&o, &e, text) || !compare_store(r.store, &o.state, text)) {
                _exit(EXIT_WRONG); // what it serves is not what it acknowledged
            }
        }
    }
    _exit(rig_close(&r) ? EXIT_FATAL : 0);
}

static void set(const char *name, const char *value) {
    if (setenv(name, value ? value : "", 1)) {
        abort();
    }
}

static void set_shim(const mode *m, unsigned long at) {
    char number[32];
    snprintf(number, sizeof(number), "%lu", at);
    set("TOB_SHIM_DIR", run.dir);
    set("TOB_SHIM_AT", number);
    set("TOB_SHIM_DO", m->what);
    set("TOB_SHIM_STICKY", m->sticky ? "1" : "");
    set("TOB_SHIM_THEN_KILL", m->then_kill);
    set("TOB_SHIM_CALL", m->call);
    set("TOB_SHIM_MATCH", m->match);
    set("TOB_SHIM_COUNT_FILE", run.count);
    set("TOB_SHIM_SHADOW", m->power == POWER_STAYS ? "" : run.shadow);
    tob_shim_load();
}

// Is the store what was acknowledged, or that with the first records of what was under way?
static bool accept(rig *r, outcome *o, char text[COMPARE_TEXT_BYTES]) {
    char ignored[COMPARE_TEXT_BYTES];
    if (compare_store(r->store, &o->state, text)) {
        o->on = NULL;
        return true;
    }
    for (unsigned i = 0; o->on && o->on->kind == SCRIPT_GROUP && i < o->on->n; i++) {
        const plain_item *item = &o->on->items[i];
        if (item->kind != PLAIN_BATCH || plain_repeated(&o->state, &item->batch) == PLAIN_NO) {
            plain_apply(&o->state, item);
        }
        if (compare_store(r->store, &o->state, ignored)) {
            o->on = NULL;
            return true;
        }
    }
    return false;
}

static bool accept_counters(rig *r, const outcome *o, char text[COMPARE_TEXT_BYTES]) {
    for (unsigned p = 0; p < PLAIN_PROCESSES; p++) {
        uint64_t is = rig_counted(r, p);
        if (is < o->state.counted[p] || is > o->reported[p]) {
            snprintf(text, COMPARE_TEXT_BYTES, "process %u counted %" PRIu64 ", not %" PRIu64 " to %" PRIu64,
                     p, is, o->state.counted[p], o->reported[p]);
            return false;
        }
    }
    return true;
}

static bool failed(const rig *r, tob_error err, const char *what, char text[COMPARE_TEXT_BYTES]) {
    if (err) {
        snprintf(text, COMPARE_TEXT_BYTES, "%s: %s: %.300s", what, tob_error_string(err), r->problem.text);
    }
    return err;
}

// The last batch that was acknowledged is a repeat; a new one is taken.
static bool go_on(rig *r, outcome *o, char text[COMPARE_TEXT_BYTES]) {
    rig_added added;
    plain_item item = {.kind = PLAIN_BATCH, .received = SCRIPT_NOW_MS + 3600000};
    if (o->last && plain_repeated(&o->state, &o->last->batch) == PLAIN_YES) {
        if (failed(r, rig_add(r, o->last, &added), "adding the repeat", text)) {
            return false;
        }
        if (!added.repeated) {
            snprintf(text, COMPARE_TEXT_BYTES, "the last batch that was acknowledged is not known");
            return false;
        }
    }
    item.batch = (plain_batch){.sender = 4, .number = 999, .content = 999999, .n = 1};
    item.batch.series[0] = (plain_series){.source = 4, .n = 1};
    item.batch.series[0].samples[0] = (plain_sample){.time = item.received, .present = 1, .values = {4711}};
    if (failed(r, rig_add(r, &item, &added), "adding", text) || failed(r, rig_sync(r), "syncing", text)) {
        return false;
    }
    plain_apply(&o->state, &item);
    return true;
}

static bool make_checkpoint(rig *r, char text[COMPARE_TEXT_BYTES]) {
    bool last = false;
    tob_error err = rig_checkpoint_begin(r, SCRIPT_NOW_MS);
    while (!err && !last) {
        err = rig_checkpoint_page(r, &last);
    }
    err = err ? err : rig_checkpoint_commit(r);
    err = err ? err : rig_retain(r, INT64_C(2) * SCRIPT_NOW_MS);
    return !failed(r, err, "checkpoint", text);
}

// Three starts: after the child; after a kill; after a checkpoint and a clean end.
static bool verify(outcome *o, char text[COMPARE_TEXT_BYTES]) {
    rig r;
    rig_init(&r, run.dir, SCRIPT_SEGMENT_BYTES, run.sync);
    bool ok = !failed(&r, rig_open(&r), "first start", text) && accept(&r, o, text) &&
              accept_counters(&r, o, text) && go_on(&r, o, text) && compare_store(r.store, &o->state, text);
    if (ok) {
        rig_crash(&r);
        ok = !failed(&r, rig_open(&r), "second start", text) && compare_store(r.store, &o->state, text) &&
             accept_counters(&r, o, text) && make_checkpoint(&r, text) &&
             !failed(&r, rig_close(&r), "closing", text);
    }
    ok = ok && !failed(&r, rig_open(&r), "third start", text) && compare_store(r.store, &o->state, text) &&
         accept_counters(&r, o, text);
    rig_fini(&r);
    return ok;
}

// ---- one case

static unsigned long calls_counted(void) {
    FILE *file = fopen(run.count, "r");
    unsigned long n = 0;
    if (file) {
        if (fscanf(file, "%lu", &n) != 1) {
            n = 0;
        }
        fclose(file);
    }
    return n;
}

static bool ended_well(int status, const mode *m, bool beyond, char text[COMPARE_TEXT_BYTES]) {
    bool killed = m->then_kill || strncmp(m->what, "kill", 4) == 0;
    bool ended =
        WIFEXITED(status) && (WEXITSTATUS(status) == EXIT_FATAL || WEXITSTATUS(status) == EXIT_REFUSED);
    if (ended || (WIFEXITED(status) && WEXITSTATUS(status) == 0 && (!m->fatal || beyond)) ||
        (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        return true;
    }
    snprintf(text, COMPARE_TEXT_BYTES, "the process ended with wait status %d%s", status,
             WIFEXITED(status) && WEXITSTATUS(status) == EXIT_WRONG
                 ? ": it served what it did not acknowledge"
                 : "");
    return false;
}

// False: a defect. ret_beyond: the script made fewer calls than that.
static bool run_case(const mode *m, unsigned long at, bool *ret_beyond, char text[COMPARE_TEXT_BYTES]) {
    int events[2], status = 0;
    outcome o = {0};
    event e;
    bool ok = true;
    scratch_empty(run.dir);
    scratch_empty(run.shadow);
    unlink(run.count);
    if (pipe2(events, O_CLOEXEC)) {
        abort();
    }
    pid_t pid = fork();
    if (pid < 0) {
        abort();
    }
    if (pid == 0) {
        close(events[0]);
        set_shim(m, at);
        child(m, events[1]);
    }
    close(events[1]);
    plain_init(&o.state);
    while (ok && read(events[0], &e, sizeof(e)) == (ssize_t)sizeof(e)) {
        ok = follow(&o, &e, text);
    }
    close(events[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    *ret_beyond = calls_counted() < at;
    if (m->power != POWER_STAYS && !*ret_beyond) {
        power_lose(run.dir, run.shadow, m->power);
    }
    return ok && ended_well(status, m, *ret_beyond, text) && verify(&o, text);
}

static unsigned long run_mode(const mode *m, unsigned long from, unsigned long to, bool *ret_ok) {
    unsigned long cases = 0;
    bool beyond = false;
    for (unsigned long at = from; at <= to && !beyond; at++) {
        char text[COMPARE_TEXT_BYTES] = "";
        cases++;
        if (!run_case(m, at, &beyond, text)) {
            printf("FAILED: mode %s at call %lu: %s\n", m->name, at, text);
            *ret_ok = false;
        }
    }
    return cases;
}

static int usage(void) {
    printf("Usage: torture_syscalls [all | always | interval | never [MODE [CALL]]]\nModes:");
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        printf(" %s", modes[i].name);
    }
    printf("\nWithout: all, each at every call. The power fails with 'always' only: other modes promise less "
           "then.\n");
    return 2;
}

static unsigned long run_modes(const char *sync_name, const char *only_mode, unsigned long only_call,
                               bool *ret_ok) {
    unsigned long cases = 0;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        bool wanted = only_mode ? strcmp(only_mode, modes[i].name) == 0
                                : run.sync == TOB_JOURNAL_SYNC_ALWAYS || modes[i].power == POWER_STAYS;
        if (wanted) {
            unsigned long n =
                run_mode(&modes[i], only_call ? only_call : 1, only_call ? only_call : ULONG_MAX, ret_ok);
            printf("%s, %s: %lu runs\n", sync_name, modes[i].name, n);
            fflush(stdout);
            cases += n;
        }
    }
    return cases;
}

int main(int argc, char **argv) {
    static const char *const syncs[] = {"always", "interval", "never"};
    unsigned long cases = 0, wanted = 0;
    bool ok = true;
    if (argc > 4) {
        return usage();
    }
    scratch_new(run.dir);
    scratch_new(run.shadow);
    snprintf(run.count, sizeof(run.count), "%s.count", run.dir);
    for (int i = 0; i < 3; i++) {
        if (argc < 2 || strcmp(argv[1], "all") == 0 || strcmp(argv[1], syncs[i]) == 0) {
            run.sync = (tob_journal_sync_mode)i;
            wanted++;
            cases += run_modes(syncs[i], argc > 2 ? argv[2] : NULL, argc > 3 ? strtoul(argv[3], NULL, 10) : 0,
                               &ok);
        }
    }
    scratch_remove(run.dir);
    scratch_remove(run.shadow);
    unlink(run.count);
    if (!wanted || !cases) {
        return usage();
    }
    printf("%lu runs: %s\n", cases, ok ? "nothing acknowledged was lost" : "FAILED");
    return ok ? 0 : 1;
}
