// Power losses, simulated: of what was written to a file since its last sync, a disk keeps any sectors; of a directory's
// changes any. Journals go through many of them, one after the other. What was promised must be there, in order, and
// nothing that was never written.
#include <dirent.h>
#include <limits.h>
#include <time.h>

#include "fixture.h"

enum {
    SECTOR = 512,
    MAX_FILES = 64,
    MAX_RECORDS = 4096,
    CHAINS = 15,    // journals in each mode
    LOSSES = 5,     // each of them goes through
    MAX_STEPS = 30, // between two
};

// A file as the disk has it for sure.
typedef struct durable {
    char name[64];
    uint8_t *bytes;
    size_t n;
    bool linked; // its name, too
} durable;

typedef struct record {
    uint64_t id;
    size_t n;
} record;

// The journal at hand, its disk, and what we know of it.
static struct world {
    char dir[160];
    char image[160]; // what the loss leaves
    durable files[MAX_FILES];
    size_t file_count;
    int steps_to_loss; // syncs until the power goes
    bool lost;
    bool settles; // in this life, now and then
    uint64_t random;
    uint64_t next_id;
    record records[MAX_RECORDS]; // written, or being written
    size_t written;
    size_t promised;         // of which must be there
    size_t promised_at_loss; // as `written` and `promised` were then
    size_t written_at_loss;
    size_t seen;
} w;

static uint64_t draw(uint64_t below) { // xorshift64*, Vigna 2016
    w.random ^= w.random >> 12;
    w.random ^= w.random << 25;
    w.random ^= w.random >> 27;
    return (w.random * 0x2545f4914f6cdd1dull >> 16) % below;
}

static durable *durable_of(const char *name) {
    for (size_t i = 0; i < w.file_count; i++) {
        if (strcmp(w.files[i].name, name) == 0) {
            return &w.files[i];
        }
    }
    assert_true(w.file_count < MAX_FILES);
    durable *d = &w.files[w.file_count++];
    *d = (durable){.bytes = NULL};
    snprintf(d->name, sizeof(d->name), "%s", name);
    return d;
}

static void forget_durable(void) {
    for (size_t i = 0; i < w.file_count; i++) {
        free(w.files[i].bytes);
    }
    w.file_count = 0;
}

static uint8_t *read_entry(const char *name, size_t *ret_n) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", w.dir, name);
    if (access(path, F_OK)) {
        *ret_n = 0;
        return calloc(1, 1);
    }
    return read_file(path, ret_n);
}

static void keep(const char *name) {
    durable *d = durable_of(name);
    free(d->bytes);
    d->bytes = read_entry(name, &d->n);
}

// What is left of a file: each sector as it was at the last sync, or as it is now.
static void lose_file(const durable *d) {
    static const unsigned chances[] = {0, 1, 5, 9, 10}; // of ten
    unsigned chance = chances[draw(5)];
    size_t now_n = 0;
    uint8_t *now = read_entry(d->name, &now_n);
    size_t n = draw(2) ? now_n : d->n;
    uint8_t *left = calloc(1, n + 1);
    for (size_t at = 0; at < n; at += SECTOR) {
        bool newer = draw(10) < chance;
        const uint8_t *from = newer ? now : d->bytes;
        size_t from_n = newer ? now_n : d->n, to = at + SECTOR < n ? at + SECTOR : n;
        if (from_n > at) {
            memcpy(left + at, from + at, (to < from_n ? to : from_n) - at);
        }
    }
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", w.image, d->name);
    write_file(path, left, n);
    free(left);
    free(now);
}

static void each_entry(void (*fn)(const char *name)) {
    DIR *listing = opendir(w.dir);
    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0) {
            fn(entry->d_name);
        }
    }
    closedir(listing);
}

static void know(const char *name) {
    (void)durable_of(name);
}

static void lose_power(void) {
    w.lost = true;
    w.promised_at_loss = w.promised;
    w.written_at_loss = w.written;
    assert_int_equal(mkdir(w.image, 0700), 0);
    each_entry(know);
    for (size_t i = 0; i < w.file_count; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", w.dir, w.files[i].name);
        bool there = access(path, F_OK) == 0;
        if (there == w.files[i].linked ? there : draw(2) != 0) {
            lose_file(&w.files[i]);
        }
    }
}

// False when it is not the journal's.
static bool name_of(int fd, char ret[256]) {
    char link[64], path[256];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    assert_true(n > 0);
    path[n] = 0;
    size_t len = strlen(w.dir);
    if (strncmp(path, w.dir, len) != 0 || (path[len] && path[len] != '/')) {
        return false;
    }
    snprintf(ret, 256, "%s", path[len] ? path + len + 1 : "");
    return true;
}

static void maybe_lose_power(void) {
    if (!w.lost && w.steps_to_loss-- == 0) {
        lose_power();
    }
}

// The journal's syncs are these.
int fdatasync(int fd) {
    char name[256];
    maybe_lose_power();
    if (name_of(fd, name) && !strstr(name, " (deleted)")) {
        keep(name);
    }
    return 0;
}

static void link_durably(const char *name) {
    durable_of(name)->linked = true;
}

int fsync(int fd) {
    char name[256];
    maybe_lose_power();
    if (name_of(fd, name) && !name[0]) {
        for (size_t i = 0; i < w.file_count; i++) {
            w.files[i].linked = false;
        }
        each_entry(link_durably);
    }
    return 0;
}

static void survive(const char *name) {
    keep(name);
    link_durably(name);
}

static size_t payload(const record *r, uint8_t *bytes) {
    for (size_t i = 0; i < r->n; i++) {
        bytes[i] =
            (uint8_t)(i < 8 ? r->id >> (8 * i) : (r->id % 5 ? r->id * 31 + i * 7 : 0)); // a fifth: zeros
    }
    return r->n;
}

static tob_error expect_next(void *user, tob_position at, const void *bytes, size_t n) {
    static uint8_t expected[512 << 10];
    (void)user, (void)at;
    assert_true(w.seen < w.written);
    assert_int_equal(n, payload(&w.records[w.seen], expected));
    assert_memory_equal(bytes, expected, n);
    w.seen++;
    return TOB_OK;
}

static tob_journal *reopen(tob_journal_sync_mode mode) {
    tob_journal_options options = {.dir = w.dir, .segment_bytes = SEGMENT, .sync = mode};
    tob_journal *journal = NULL;
    tob_journal_problem problem;
    uint64_t cut = 0;
    w.seen = 0;
    tob_error err = tob_journal_open(&options, expect_next, NULL, &journal, &cut, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    assert_in_range(w.seen, w.promised, w.written);
    w.written = w.seen;
    if (mode != TOB_JOURNAL_SYNC_NEVER) {
        w.promised = w.written;
    }
    return journal;
}

static void append_one(tob_journal *journal) {
    static uint8_t bytes[512 << 10];
    assert_true(w.written < MAX_RECORDS);
    record *r = &w.records[w.written];
    *r = (record){.id = w.next_id++, .n = 8 + draw(draw(8) ? 2500 : 400000)};
    tob_journal_part part = {bytes, payload(r, bytes)};
    tob_position at;
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_OK);
    w.written++;
}

static void step(tob_journal *journal, tob_journal_sync_mode mode) {
    size_t before = w.written;
    for (uint64_t n = draw(4); n > 0; n--) {
        append_one(journal);
    }
    bool settle_first = w.settles && draw(4) == 0;
    if (settle_first) { // what is queued is not part of it
        settle_ok(journal);
        w.promised = before;
    }
    sync_ok(journal);
    if (mode == TOB_JOURNAL_SYNC_ALWAYS) {
        w.promised = w.written;
    } else if (w.settles && draw(3) == 0) {
        settle_ok(journal);
        w.promised = w.written;
    }
}

// From one power loss to the next.
static void live(tob_journal_sync_mode mode) {
    w.lost = false;
    w.steps_to_loss = (int)draw(draw(2) ? 3 : MAX_STEPS); // often soon after the start
    w.settles = draw(3) != 0;
    tob_journal *journal = reopen(mode);
    for (uint64_t steps = 1 + draw(MAX_STEPS); !w.lost && steps > 0; steps--) {
        step(journal, mode);
    }
    if (!w.lost) {
        lose_power();
    }
    tob_journal_close(journal);
    w.promised = w.promised_at_loss;
    w.written = w.written_at_loss;
}

static void run_chain(const fixture *f, tob_journal_sync_mode mode, uint64_t seed) {
    print_message("mode %d, seed %llu\n", (int)mode, (unsigned long long)seed);
    w.random = seed;
    w.written = w.promised = 0;
    snprintf(w.dir, sizeof(w.dir), "%s/%d-%llu-0", f->dir, (int)mode, (unsigned long long)seed);
    assert_int_equal(mkdir(w.dir, 0700), 0);
    for (int loss = 1; loss <= LOSSES; loss++) {
        snprintf(w.image, sizeof(w.image), "%s/%d-%llu-%d", f->dir, (int)mode, (unsigned long long)seed,
                 loss);
        live(mode);
        assert_int_equal(remove_tree(w.dir), 0);
        memcpy(w.dir, w.image, sizeof(w.dir));
        forget_durable();
        each_entry(survive);
    }
    w.steps_to_loss = INT_MAX;
    tob_journal_close(reopen(mode));
    forget_durable();
    assert_int_equal(remove_tree(w.dir), 0);
}

static void run_mode(const fixture *f, tob_journal_sync_mode mode) {
    const char *given = getenv("TOB_SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000 + 1;
    for (uint64_t i = 0; i < (given ? 1 : CHAINS); i++) {
        run_chain(f, mode, first + i);
    }
}

static void a_power_loss_takes_nothing_that_was_acknowledged(void **state) {
    run_mode(*state, TOB_JOURNAL_SYNC_ALWAYS);
}

static void a_power_loss_takes_nothing_that_was_settled_in_an_interval(void **state) {
    run_mode(*state, TOB_JOURNAL_SYNC_INTERVAL);
}

static void a_power_loss_takes_nothing_that_was_settled_when_told(void **state) {
    run_mode(*state, TOB_JOURNAL_SYNC_NEVER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_power_loss_takes_nothing_that_was_acknowledged),
        TEST(a_power_loss_takes_nothing_that_was_settled_in_an_interval),
        TEST(a_power_loss_takes_nothing_that_was_settled_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
