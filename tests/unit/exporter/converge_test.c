// A model test: several ingestd that report, remove, restart, lose their disk; a bus that loses, delays and repeats;
// pages that come late, fail and no longer reach back. However they interleave, the mirror ends with the union.
#include "exporter/instances.h"
#include "support.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    SEQUENCES = 4000,
    STEPS = 250,
    INGESTD = 3,
    SOURCES = 12,
    BUCKETS = 3,
    MAX_QUEUED = 400,
    MAX_RECORDS = 4000,
    PAGE_ROWS = 3,
    MAX_ROUNDS = 2000,
    ROUND_MS = 4000,
    QUIET_ROUNDS = 100, // longer than the exporter waits after the longest resync
    HEADER = 40,        // of a segment
    RECORD = 10,        // bytes
};

typedef struct row {
    bool there;
    uint64_t version;
    uint64_t at_unix_ms;
    uint64_t value;
} row;

typedef struct message {
    uint64_t instance;
    uint64_t epoch;
    unsigned topic;
    uint64_t sequence;
    uint64_t place;
    int source; // -1: a heartbeat
    row row;    // not there: a removal
    uint64_t last[TOB_BUS_BUCKETS];
} message;

// A page under way.
typedef struct page {
    tob_resync_kind kind; // NONE: nothing was asked
    uint64_t instance;    // that was asked
    uint64_t cursor;
    uint64_t from;
    uint64_t buckets;
    bool made;
    tob_error error;
    uint64_t epoch;
    uint64_t next;
    uint64_t end;
    uint64_t version;
    row rows[SOURCES];
    bool has[SOURCES];
    uint64_t last[TOB_BUS_BUCKETS];
} page;

typedef struct ingestd {
    uint64_t instance;
    uint64_t epoch;
    uint64_t version;
    row rows[SOURCES];
    bool to_remove[SOURCES]; // the registry doesn't have it any more
    uint64_t last[TOB_BUS_BUCKETS];
    int journal[MAX_RECORDS]; // the source of each record
    uint64_t records;
    uint64_t oldest;
    message queue[MAX_QUEUED];
    size_t queued;
    page page;
} ingestd;

// What an ingestd had whose disk is lost: shown until somebody else hears of the source.
typedef struct ghost {
    row row;
    bool maybe; // somebody did, for a while: it may be gone
} ghost;

typedef struct model {
    uint64_t random;
    uint64_t ids; // of instances and epochs
    tob_moment now;
    uint64_t buckets;
    ingestd ingestd[INGESTD];
    ghost ghosts[SOURCES];
    tob_mirror *mirror;
    tob_instances *instances;
} model;

static struct counts { uint64_t replays, snapshots, out_of_range, lost; } counts;

static uint64_t draw(model *m, uint64_t below) {
    // splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators)
    uint64_t z = (m->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

// Sources of a few buckets only, so that each bucket has several.
static char ids[SOURCES][16];

static void choose_ids(void) {
    int found = 0;
    for (int i = 0; found < SOURCES; i++) {
        snprintf(ids[found], sizeof(ids[found]), "c%d", i);
        found += tob_bucket_of(ids[found]) < BUCKETS;
    }
}

static unsigned bucket_of(int source) {
    return tob_bucket_of(ids[source]);
}

static bool selected(uint64_t buckets, int source) {
    return buckets == 0 || (buckets >> bucket_of(source) & 1);
}

static uint64_t place_of(uint64_t record) {
    return HEADER + RECORD * record;
}

static void enqueue(ingestd *d, const message *msg) {
    if (d->queued == MAX_QUEUED) { // the bus drops the oldest
        memmove(&d->queue[0], &d->queue[1], --d->queued * sizeof(d->queue[0]));
        counts.lost++;
    }
    d->queue[d->queued++] = *msg;
}

// Journals and publishes the row as it is now.
static void publish(ingestd *d, int source) {
    unsigned bucket = bucket_of(source);
    assert_true(d->records < MAX_RECORDS);
    d->journal[d->records++] = source;
    message msg = {.instance = d->instance,
                   .epoch = d->epoch,
                   .topic = 1 + bucket,
                   .sequence = ++d->last[bucket],
                   .place = place_of(d->records),
                   .source = source,
                   .row = d->rows[source]};
    enqueue(d, &msg);
}

static void beat(ingestd *d) {
    message msg = {.instance = d->instance,
                   .epoch = d->epoch,
                   .topic = TOB_BUS_TOPIC_HEARTBEAT,
                   .place = place_of(d->records),
                   .source = -1};
    memcpy(msg.last, d->last, sizeof(msg.last));
    enqueue(d, &msg);
}

static void report(model *m, ingestd *d, int source) {
    m->now.monotonic_ms++;
    m->now.unix_ms++;
    d->rows[source] = (row){.there = true,
                            .version = ++d->version,
                            .at_unix_ms = m->now.unix_ms,
                            .value = m->now.unix_ms % 1000000007};
    d->to_remove[source] = false;
    publish(d, source);
    m->ghosts[source].maybe = true;
}

// The registry drops a source; each ingestd hears of it some time.
static void drop_source(model *m, int source) {
    for (size_t i = 0; i < INGESTD; i++) {
        m->ingestd[i].to_remove[source] = m->ingestd[i].rows[source].there;
    }
}

static void remove_dropped(ingestd *d) {
    for (int s = 0; s < SOURCES; s++) {
        if (d->to_remove[s]) {
            d->to_remove[s] = false;
            d->rows[s].there = false;
            d->version++;
            publish(d, s);
        }
    }
}

static void fill_row(Tobogganing__V1__ClientRow *to, int source, const row *r) {
    tobogganing__v1__client_row__init(to);
    to->client_id = ids[source];
    to->name = ids[source];
    to->type = (char *)"native";
    to->version = r->version;
    to->last_check_in_unix_ms = r->at_unix_ms;
    to->present = 1;
    to->bytes_sent = r->value;
}

static void deliver(model *m, const message *msg) {
    Tobogganing__V1__BusMessage bus = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__ClientRow client;
    Tobogganing__V1__ClientRow *clients[] = {&client};
    char *removed[1];
    uint64_t last[TOB_BUS_BUCKETS];
    position.segment = 1;
    position.offset = msg->place;
    bus.topic = msg->topic;
    bus.instance = msg->instance;
    bus.epoch = msg->epoch;
    bus.sequence = msg->sequence;
    bus.position = &position;
    if (msg->source < 0) {
        memcpy(last, msg->last, sizeof(last));
        heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
        heartbeat.last_sequences = last;
        bus.heartbeat = &heartbeat;
    } else if (msg->row.there) {
        fill_row(&client, msg->source, &msg->row);
        bus.n_clients = 1;
        bus.clients = clients;
    } else {
        removed[0] = ids[msg->source];
        bus.n_removed_clients = 1;
        bus.removed_clients = removed;
    }
    // The subscription of a shard.
    if (msg->source < 0 || selected(m->buckets, msg->source)) {
        tob_instances_bus(m->instances, &bus, m->now);
    }
}

static void deliver_some(model *m, ingestd *d, size_t n, unsigned loss_percent) {
    n = n < d->queued ? n : d->queued;
    for (size_t i = 0; i < n; i++) {
        if (draw(m, 100) < loss_percent) {
            counts.lost++;
            continue;
        }
        deliver(m, &d->queue[i]);
        if (draw(m, 20) == 0) {
            deliver(m, &d->queue[i]); // by two connections
        }
    }
    memmove(&d->queue[0], &d->queue[n], (d->queued - n) * sizeof(d->queue[0]));
    d->queued -= n;
}

static void ask(model *m, ingestd *d) {
    tob_page_request request;
    if (d->page.kind != TOB_RESYNC_NONE ||
        !tob_instances_request(m->instances, d->instance, m->now, &request)) {
        return;
    }
    d->page = (page){.kind = request.kind, .instance = d->instance};
    if (request.kind == TOB_RESYNC_SNAPSHOT) {
        d->page.cursor = request.snapshot.cursor;
        d->page.buckets = request.snapshot.buckets;
    } else {
        assert_int_equal(request.replay.instance, d->instance);
        d->page.from = request.replay.from->offset;
        d->page.buckets = request.replay.buckets;
    }
}

static void add_to_page(const ingestd *d, page *p, int source) {
    p->has[source] = selected(p->buckets, source);
    p->rows[source] = d->rows[source];
}

static void make_snapshot(const ingestd *d, page *p) {
    counts.snapshots++;
    uint64_t at = p->cursor;
    for (int rows = 0; at < SOURCES && rows < PAGE_ROWS; at++) {
        if (d->rows[at].there) {
            add_to_page(d, p, (int)at);
            rows++;
        }
    }
    p->next = at < SOURCES ? at : 0;
}

static void make_replay(const ingestd *d, page *p) {
    uint64_t at = (p->from - HEADER) / RECORD;
    if (at < d->oldest || at > d->records) {
        p->error = TOB_OUT_OF_RANGE;
        counts.out_of_range++;
        return;
    }
    counts.replays++;
    for (int i = 0; i < PAGE_ROWS && at < d->records; i++, at++) {
        add_to_page(d, p, d->journal[at]);
    }
    p->next = place_of(at);
}

// ingestd makes the page that was asked for.
static void make(ingestd *d) {
    page *p = &d->page;
    if (p->kind == TOB_RESYNC_NONE || p->made) {
        return;
    }
    p->made = true;
    p->epoch = d->epoch;
    p->end = place_of(d->records);
    p->version = d->version;
    memcpy(p->last, d->last, sizeof(p->last));
    if (p->instance != d->instance) {
        p->error = TOB_UNAVAILABLE;
    } else if (p->kind == TOB_RESYNC_SNAPSHOT) {
        make_snapshot(d, p);
    } else {
        make_replay(d, p);
    }
}

static void give(model *m, page *p) {
    Tobogganing__V1__SnapshotResponse snapshot = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__ReplayResponse replay = TOBOGGANING__V1__REPLAY_RESPONSE__INIT;
    Tobogganing__V1__Position next = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__Position end = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__ClientRow rows[SOURCES];
    Tobogganing__V1__ClientRow *clients[SOURCES];
    char *removed[SOURCES];
    size_t n = 0;
    size_t n_removed = 0;
    for (int s = 0; s < SOURCES; s++) {
        if (p->has[s] && p->rows[s].there) {
            fill_row(&rows[s], s, &p->rows[s]);
            clients[n++] = &rows[s];
        } else if (p->has[s]) {
            removed[n_removed++] = ids[s];
        }
    }
    next.segment = end.segment = 1;
    next.offset = p->next;
    end.offset = p->end;
    if (p->kind == TOB_RESYNC_SNAPSHOT) {
        snapshot.instance = p->instance;
        snapshot.epoch = p->epoch;
        snapshot.next_cursor = p->next;
        snapshot.version = p->version;
        snapshot.position = &end;
        snapshot.n_clients = n;
        snapshot.clients = clients;
        snapshot.n_last_sequences = TOB_BUS_BUCKETS;
        snapshot.last_sequences = p->last;
        tob_instances_snapshot(m->instances, p->instance, &snapshot, 100, m->now);
        return;
    }
    replay.instance = p->instance;
    replay.epoch = p->epoch;
    replay.next = &next;
    replay.end = &end;
    replay.version = p->version;
    replay.n_clients = n;
    replay.clients = clients;
    replay.n_removed_clients = n_removed;
    replay.removed_clients = removed;
    replay.n_last_sequences = TOB_BUS_BUCKETS;
    replay.last_sequences = p->last;
    tob_instances_replay(m->instances, p->instance, &replay, 100, m->now);
}

static void answer(model *m, ingestd *d) {
    page p = d->page;
    if (p.kind == TOB_RESYNC_NONE || !p.made) {
        return;
    }
    d->page.kind = TOB_RESYNC_NONE;
    if (p.error) {
        tob_instances_page_failed(m->instances, p.instance, p.error, "", 0, m->now);
    } else {
        give(m, &p);
    }
}

static void hello(model *m, const ingestd *d) {
    tob_instances_hello(m->instances, d->instance, d->epoch, m->now);
}

// It comes back from its disk: the rows are numbered anew, the sequences begin again.
static void restart(model *m, ingestd *d) {
    d->epoch = ++m->ids;
    d->version = 0;
    memset(d->last, 0, sizeof(d->last));
    for (int s = 0; s < SOURCES; s++) {
        d->rows[s].version = d->rows[s].there ? ++d->version : 0;
    }
    if (d->page.kind != TOB_RESYNC_NONE && !d->page.made) {
        d->page.made = true;
        d->page.error = TOB_UNAVAILABLE;
    }
    if (draw(m, 2)) {
        d->queued = 0; // with its connection
    }
}

static bool shown(const model *m, int source, row *ret) {
    const char *id = ids[source];
    size_t id_at = strlen("client_id=\"");
    bool found = false;
    for (uint32_t i = 0; i < tob_mirror_chunks(m->mirror, TOB_SOURCE_CLIENT); i++) {
        const tob_mirror_chunk *c = tob_mirror_read_lock(m->mirror, TOB_SOURCE_CLIENT, i);
        for (uint32_t r = 0; r < TOB_MIRROR_CHUNK_ROWS && r < 2 * SOURCES; r++) {
            if (c->state[r] != TOB_ROW_FREE && c->id_len[r] == strlen(id) &&
                memcmp(c->block[r] + id_at, id, strlen(id)) == 0) {
                assert_false(found);
                found = true;
                *ret = (row){.there = true,
                             .at_unix_ms = c->last_check_in_unix_ms[r],
                             .value = c->values[0][r].integer};
            }
        }
        tob_mirror_read_unlock(m->mirror, TOB_SOURCE_CLIENT, i);
    }
    return found;
}

static row newest(const model *m, int source) {
    row expected = {.there = false};
    for (size_t i = 0; i < INGESTD; i++) {
        const row *r = &m->ingestd[i].rows[source];
        if (r->there && r->at_unix_ms > expected.at_unix_ms) {
            expected = *r;
        }
    }
    return expected;
}

static bool same(bool there, const row *got, const row *expected) {
    return there == expected->there &&
           (!there || (got->at_unix_ms == expected->at_unix_ms && got->value == expected->value));
}

static void check(const model *m, uint64_t seed) {
    for (int s = 0; s < SOURCES; s++) {
        row got = {.there = false};
        row expected = newest(m, s);
        const ghost *g = &m->ghosts[s];
        bool there = shown(m, s, &got);
        if (!selected(m->buckets, s)) {
            expected.there = false;
        } else if (g->row.there && g->row.at_unix_ms > expected.at_unix_ms) {
            if (g->maybe && (!there || same(there, &got, &expected))) {
                continue;
            }
            expected = g->row;
        }
        if (!same(there, &got, &expected)) {
            fail_msg("seed %llu: %s is %d %llu %llu, should be %d %llu %llu", (unsigned long long)seed,
                     ids[s], there, (unsigned long long)got.at_unix_ms, (unsigned long long)got.value,
                     expected.there, (unsigned long long)expected.at_unix_ms,
                     (unsigned long long)expected.value);
        }
    }
}

static void pass_ms(model *m, uint64_t ms) {
    m->now.monotonic_ms += ms;
    m->now.unix_ms += ms;
    tob_instances_tick(m->instances, m->now);
}

// Nothing gets lost any more; ends when nobody asks for anything.
static void settle(model *m, uint64_t seed) {
    int quiet = 0;
    for (size_t i = 0; i < INGESTD; i++) {
        remove_dropped(&m->ingestd[i]);
    }
    for (int round = 0; quiet < QUIET_ROUNDS; round++) {
        quiet++;
        for (size_t i = 0; i < INGESTD; i++) {
            ingestd *d = &m->ingestd[i];
            beat(d);
            deliver_some(m, d, d->queued, 0);
            hello(m, d);
            make(d);
            answer(m, d);
            ask(m, d);
            quiet = d->page.kind == TOB_RESYNC_NONE ? quiet : 0;
        }
        pass_ms(m, ROUND_MS);
        if (round == MAX_ROUNDS) {
            fail_msg("seed %llu: no end", (unsigned long long)seed);
        }
    }
}

// A disk is lost: another instance is there, with nothing. Only once all is quiet it is known what the mirror keeps.
static void lose_disk(model *m, ingestd *d, uint64_t seed) {
    settle(m, seed);
    for (int s = 0; s < SOURCES; s++) {
        row got;
        if (d->rows[s].there && shown(m, s, &got) && got.at_unix_ms == d->rows[s].at_unix_ms) {
            m->ghosts[s] = (ghost){.row = d->rows[s]};
        }
    }
    uint64_t id = ++m->ids;
    *d = (ingestd){.instance = id, .epoch = ++m->ids};
}

static void step(model *m, uint64_t seed) {
    ingestd *d = &m->ingestd[draw(m, INGESTD)];
    uint64_t dice = draw(m, 1000);
    if (dice < 350) {
        report(m, d, (int)draw(m, SOURCES));
    } else if (dice < 370) {
        drop_source(m, (int)draw(m, SOURCES));
    } else if (dice < 400) {
        remove_dropped(d);
    } else if (dice < 450) {
        beat(d);
    } else if (dice < 600) {
        deliver_some(m, d, 1 + draw(m, 8), draw(m, 4) ? 0 : 40);
    } else if (dice < 640) {
        hello(m, d);
    } else if (dice < 720) {
        ask(m, d);
    } else if (dice < 800) {
        make(d);
    } else if (dice < 880) {
        answer(m, d);
    } else if (dice < 890 && d->page.kind != TOB_RESYNC_NONE) {
        d->page.made = true;
        d->page.error = draw(m, 2) ? TOB_DEADLINE : TOB_UNAVAILABLE;
    } else if (dice < 900) {
        restart(m, d);
    } else if (dice < 915) {
        d->oldest = d->oldest + draw(m, d->records - d->oldest + 1);
    } else if (dice < 917) {
        lose_disk(m, d, seed);
    } else {
        pass_ms(m, draw(m, 5) ? draw(m, 700) : draw(m, 9000));
    }
}

static void init_model(model *m, uint64_t seed) {
    *m = (model){.random = seed, .mirror = new_mirror(SOURCES, DAY_MS)};
    m->now = (tob_moment){.monotonic_ms = 1000000, .unix_ms = 1700000000000};
    m->buckets = draw(m, 4) ? 0 : 1 + draw(m, (1u << BUCKETS) - 1); // a shard, sometimes
    tob_instances_options options = {.mirror = m->mirror, .buckets = m->buckets, .ready_timeout_ms = 1};
    assert_int_equal(tob_instances_new(&options, m->now, &m->instances), TOB_OK);
    for (size_t i = 0; i < INGESTD; i++) {
        m->ingestd[i].instance = ++m->ids;
        m->ingestd[i].epoch = ++m->ids;
    }
}

static void run_sequence(model *m, uint64_t seed) {
    init_model(m, seed);
    for (int i = 0; i < STEPS; i++) {
        step(m, seed);
    }
    settle(m, seed);
    check(m, seed);
    tob_instances_free(m->instances);
    tob_mirror_free(m->mirror);
}

static void whatever_happens_the_mirror_ends_with_the_union(void **state) {
    (void)state;
    static model m;
    const char *asked = getenv("TOB_TEST_SEED");
    const char *sequences = getenv("TOB_TEST_SEQUENCES");
    uint64_t first = asked ? strtoull(asked, NULL, 10) : tob_clock_unix_ms() * 1000003;
    uint64_t n = sequences ? strtoull(sequences, NULL, 10) : asked ? 1 : SEQUENCES;
    choose_ids();
    print_message("seeds from %llu on\n", (unsigned long long)first);
    for (uint64_t i = 0; i < n; i++) {
        run_sequence(&m, first + i);
    }
    print_message(
        "%llu sequences, %llu messages lost, %llu pages of replays, %llu of snapshots, %llu out of range\n",
        (unsigned long long)n, (unsigned long long)counts.lost, (unsigned long long)counts.replays,
        (unsigned long long)counts.snapshots, (unsigned long long)counts.out_of_range);
    assert_true(asked || (counts.lost && counts.replays && counts.snapshots && counts.out_of_range));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_the_mirror_ends_with_the_union),
    };
    if (tob_log_configure("converge_test", "error", "logfmt")) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
