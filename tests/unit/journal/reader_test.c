#include <pthread.h>

#include "fixture.h"
#include "journal/reader.h"
#include "journal/segment.h"

static tob_journal_reader *reader_of(const fixture *f) {
    tob_journal_reader *reader = NULL;
    assert_int_equal(tob_journal_reader_new(f->journal, &reader), TOB_OK);
    return reader;
}

static tob_error read_from(tob_journal_reader *reader, tob_position from, tob_position end,
                           uint64_t max_bytes, seen *s, tob_position *ret_next,
                           tob_journal_problem *problem) {
    memset(s, 0, offsetof(seen, refuse));
    return tob_journal_read(reader, from, end, max_bytes, see, s, ret_next, problem);
}

static tob_position read_ok(tob_journal_reader *reader, tob_position from, tob_position end,
                            uint64_t max_bytes, seen *s) {
    tob_position next = {0, 0};
    tob_journal_problem problem = {""};
    tob_error err = read_from(reader, from, end, max_bytes, s, &next, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    assert_false(s->uneven);
    return next;
}

static void expect_refused(tob_journal_reader *reader, tob_position from, tob_position end,
                           tob_error expected) {
    static seen s;
    tob_position next = {0, 0};
    tob_journal_problem problem = {""};
    assert_int_equal(read_from(reader, from, end, UINT64_MAX, &s, &next, &problem), expected);
    assert_int_equal(s.count, 0);
    assert_true(problem.text[0]);
}

// Ten records, i with byte i + 1, in three segments of 4, 4 and 2. The journal stays open.
static tob_journal *make_ten(fixture *f, tob_position at[11]) {
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    for (uint8_t i = 0; i < 10; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), 262100);
        sync_ok(journal);
    }
    at[10] = tob_journal_end(journal);
    assert_int_equal(at[9].segment, 3);
    return journal;
}

static void it_reads_from_any_record_up_to_any_other(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11];
    tob_journal *journal = make_ten(f, at);
    tob_journal_reader *reader = reader_of(f);
    for (size_t from = 0; from <= 10; from++) {
        for (size_t to = from; to <= 10; to++) {
            tob_position next = read_ok(reader, at[from], at[to], UINT64_MAX, &s);
            assert_int_equal(s.count, to - from);
            for (size_t i = 0; i < s.count; i++) {
                assert_int_equal(s.byte[i], from + i + 1);
                assert_int_equal(s.n[i], 262100);
                assert_int_equal(tob_position_compare(s.at[i], at[from + i]), 0);
            }
            assert_true(tob_position_compare(next, at[to]) <= 0);
            next = read_ok(reader, next, at[to], UINT64_MAX, &s);
            assert_int_equal(s.count, 0); // no record lies between
        }
    }
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void it_begins_with_the_oldest(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11], none = {0, 0};
    tob_journal *journal = make_ten(f, at);
    tob_journal_reader *reader = reader_of(f);
    read_ok(reader, none, at[10], UINT64_MAX, &s);
    assert_int_equal(s.count, 10);
    uint64_t removed = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_journal_retain(journal, at[4], 0, 0, UINT64_MAX, &removed, &problem), TOB_OK);
    assert_int_equal(removed, 1);
    tob_position next = read_ok(reader, none, at[10], 1, &s);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.byte[0], 5);
    assert_int_equal(tob_position_compare(next, at[5]), 0);
    expect_refused(reader, at[2], at[10], TOB_NOT_FOUND); // not retained
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void what_lies_before_a_missing_segment_is_not_the_oldest(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11];
    tob_journal *journal = make_ten(f, at);
    char path[160];
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    tob_journal_reader *reader = reader_of(f);
    read_ok(reader, (tob_position){0, 0}, at[10], UINT64_MAX, &s);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.byte[0], 9);
    tob_position next = {0, 0};
    tob_journal_problem problem = {""};
    assert_int_equal(read_from(reader, at[2], at[10], UINT64_MAX, &s, &next, &problem), TOB_NOT_FOUND);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void an_empty_journal_has_nothing(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal_reader *reader = NULL;
    assert_int_equal(tob_journal_reader_new(f->journal, &reader), TOB_NOT_FOUND);
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position end = tob_journal_end(journal);
    reader = reader_of(f);
    tob_position next = read_ok(reader, (tob_position){0, 0}, end, UINT64_MAX, &s);
    assert_int_equal(tob_position_compare(next, end), 0);
    read_ok(reader, end, end, UINT64_MAX, &s);
    assert_int_equal(s.count, 0);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void it_stops_at_so_many_bytes_but_reads_at_least_one(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11];
    tob_journal *journal = make_ten(f, at);
    tob_journal_reader *reader = reader_of(f);
    const uint64_t most[] = {0, 1, 262100, 262101, 5 * 262100};
    const size_t count[] = {1, 1, 1, 2, 5};
    for (size_t i = 0; i < 5; i++) {
        tob_position next = read_ok(reader, at[2], at[10], most[i], &s);
        assert_int_equal(s.count, count[i]);
        read_ok(reader, next, at[10], 0, &s);
        assert_int_equal(s.byte[0], 3 + count[i]);
    }
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void what_the_caller_refuses_is_not_behind_the_next_place(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11], next = {0, 0};
    tob_journal *journal = make_ten(f, at);
    tob_journal_reader *reader = reader_of(f);
    tob_journal_problem problem = {""};
    s.refuse = TOB_BUSY;
    assert_int_equal(read_from(reader, at[4], at[10], UINT64_MAX, &s, &next, &problem), TOB_BUSY);
    assert_int_equal(tob_position_compare(next, at[4]), 0);
    assert_non_null(strstr(problem.text, "journal-0000000000000002.seg at offset 40: "));
    s.refuse = TOB_OK;
    read_ok(reader, next, at[10], UINT64_MAX, &s);
    assert_int_equal(s.count, 6);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void no_other_place_is_taken(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position at[4];
    for (uint8_t i = 0; i < 3; i++) {
        at[i] = append(journal, i, 50u + i * 300u); // the first one's bytes are zeros
        sync_ok(journal);
    }
    at[3] = tob_journal_end(journal);
    tob_journal_reader *reader = reader_of(f);
    for (uint64_t offset = 0; offset < at[3].offset + 100; offset++) {
        bool is_place = offset == at[0].offset || offset == at[1].offset || offset == at[2].offset ||
                        offset == at[3].offset;
        if (!is_place) {
            expect_refused(reader, (tob_position){1, offset}, at[3], TOB_NOT_FOUND);
        }
    }
    expect_refused(reader, (tob_position){2, 40}, at[3], TOB_NOT_FOUND);
    expect_refused(reader, (tob_position){1, UINT64_MAX}, at[3], TOB_NOT_FOUND);
    expect_refused(reader, (tob_position){UINT64_MAX, 40}, at[3], TOB_NOT_FOUND);
    expect_refused(reader, (tob_position){0, 40}, at[3], TOB_NOT_FOUND);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void damage_is_told_from_a_place_that_never_was(void **state) {
    fixture *f = *state;
    tob_position at[11], next = {0, 0};
    tob_journal *journal = make_ten(f, at);
    char path[160];
    size_t n = 0;
    segment_path(f, 2, path);
    uint8_t *bytes = read_file(path, &n);
    bytes[at[5].offset + 5000] ^= 4;
    write_file(path, bytes, n);
    static seen s;
    tob_journal_problem problem = {""};
    tob_journal_reader *reader = reader_of(f);
    assert_int_equal(read_from(reader, at[3], at[10], UINT64_MAX, &s, &next, &problem), TOB_DAMAGED);
    assert_int_equal(s.count, 2);
    assert_int_equal(tob_position_compare(next, at[5]), 0);
    char place[64];
    snprintf(place, sizeof(place), "0002.seg at offset %llu: ", (unsigned long long)at[5].offset);
    assert_non_null(strstr(problem.text, place));
    tob_journal_reader_free(reader);
    reader = reader_of(f); // one that did not come along
    expect_refused(reader, at[5], at[10], TOB_DAMAGED);
    expect_refused(reader, (tob_position){2, at[5].offset + 8}, at[10], TOB_NOT_FOUND);
    read_ok(reader, at[6], at[10], UINT64_MAX, &s);
    assert_int_equal(s.count, 4);
    // A header that is damaged: what lies behind can't be told from garbage, what passes its check is still there.
    bytes[at[5].offset + 1] ^= 4;
    write_file(path, bytes, n);
    tob_journal_reader_free(reader);
    reader = reader_of(f);
    expect_refused(reader, at[5], at[10], TOB_DAMAGED);
    read_ok(reader, at[6], at[10], UINT64_MAX, &s);
    bytes[10] ^= 1;
    write_file(path, bytes, n);
    tob_journal_reader_free(reader);
    reader = reader_of(f);
    expect_refused(reader, at[6], at[10], TOB_DAMAGED);
    bytes[10] ^= 1;
    write_file(path, bytes, n - 16);
    tob_journal_reader_free(reader);
    reader = reader_of(f);
    expect_refused(reader, at[6], at[10], TOB_DAMAGED);
    free(bytes);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

static void a_last_segment_without_records_is_an_end(void **state) {
    fixture *f = *state;
    static seen s;
    tob_position at[11];
    tob_journal_close(make_ten(f, at));
    char path[160];
    segment_path(f, 4, path);
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    tob_segment_header header = {.segment = 4, .salt = 77, .previous_end = at[10].offset};
    tob_segment_header_encode(&header, bytes);
    write_file(path, bytes, sizeof(bytes)); // as a crash leaves it
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position end = tob_journal_end(journal);
    assert_int_equal(end.segment, 4);
    tob_journal_reader *reader = reader_of(f);
    tob_position next = read_ok(reader, at[8], end, UINT64_MAX, &s);
    assert_int_equal(s.count, 2);
    assert_int_equal(tob_position_compare(next, end), 0);
    next = read_ok(reader, at[10], end, UINT64_MAX, &s);
    assert_int_equal(s.count, 0);
    append(journal, 11, 100);
    sync_ok(journal);
    read_ok(reader, next, tob_journal_end(journal), UINT64_MAX, &s);
    assert_int_equal(s.count, 1);
    tob_journal_reader_free(reader);
    tob_journal_close(journal);
}

// What several readers do while one thread writes and deletes.
typedef struct race {
    const fixture *f;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tob_position end; // under the lock, as the next two
    bool done;
    bool retains;
    uint64_t read_of[2]; // ids that each reader has come to
} race;

enum { RACE_RECORDS = 2500, RACE_LEAD = 200 };

typedef struct follower {
    race *r;
    size_t index;
    uint64_t next_id;
    uint64_t count;
    bool skips; // it fell behind and begins again with what is there
} follower;

static size_t size_of(uint64_t id) {
    return 8 + (size_t)(id * 2654435761u % 9000) + (id % 50 == 0 ? 100000 : 0);
}

static tob_error follow_record(void *user, tob_position at, const void *payload, size_t n) {
    follower *me = user;
    const uint8_t *bytes = payload;
    uint64_t id = 0;
    (void)at;
    memcpy(&id, bytes, sizeof(id));
    if (me->skips && id >= me->next_id) {
        me->next_id = id;
        me->skips = false;
    }
    if (id != me->next_id || n != size_of(id)) {
        return TOB_INTERNAL;
    }
    for (size_t i = 8; i < n; i++) {
        if (bytes[i] != (uint8_t)(id + i)) {
            return TOB_INTERNAL;
        }
    }
    me->next_id++;
    me->count++;
    return TOB_OK;
}

static void *follow(void *user) {
    follower *me = user;
    race *r = me->r;
    tob_journal_reader *reader = NULL;
    tob_position at = {0, 0};
    tob_error err = tob_journal_reader_new(r->f->journal, &reader);
    while (!err) {
        pthread_mutex_lock(&r->lock);
        r->read_of[me->index] = me->next_id;
        pthread_cond_broadcast(&r->changed);
        while (!r->done && at.segment && tob_position_compare(at, r->end) >= 0) {
            pthread_cond_wait(&r->changed, &r->lock);
        }
        tob_position end = r->end;
        bool done = r->done;
        pthread_mutex_unlock(&r->lock);
        if (done && tob_position_compare(at, end) >= 0) {
            break;
        }
        tob_journal_problem problem = {""};
        err = tob_journal_read(reader, at, end, 300000, follow_record, me, &at, &problem);
        if (err == TOB_NOT_FOUND && r->retains) {
            at = (tob_position){0, 0};
            me->skips = true;
            err = TOB_OK;
        }
        if (err) {
            print_error("%s: %s\n", tob_error_string(err), problem.text);
        }
    }
    tob_journal_reader_free(reader);
    pthread_mutex_lock(&r->lock);
    r->read_of[me->index] = RACE_RECORDS; // the writer waits for nobody who has left
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return err ? "failed" : NULL;
}

static void write_race(race *r, tob_journal *journal) {
    static uint8_t bytes[200000];
    for (uint64_t id = 1; id <= RACE_RECORDS; id++) {
        tob_position at;
        tob_journal_part part = {bytes, size_of(id)};
        for (size_t i = 8; i < part.n; i++) {
            bytes[i] = (uint8_t)(id + i);
        }
        memcpy(bytes, &id, sizeof(id));
        assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_OK);
        if (id % 7 && id < RACE_RECORDS) {
            continue;
        }
        sync_ok(journal);
        if (r->retains) {
            uint64_t removed = 0;
            tob_journal_problem problem = {""};
            assert_int_equal(tob_journal_retain(journal, at, UINT64_MAX, 2 * SEGMENT, 0, &removed, &problem),
                             TOB_OK);
        }
        pthread_mutex_lock(&r->lock);
        r->end = tob_journal_end(journal);
        pthread_cond_broadcast(&r->changed);
        while (!r->retains && id > r->read_of[0] + RACE_LEAD && id > r->read_of[1] + RACE_LEAD) {
            pthread_cond_wait(&r->changed, &r->lock); // so that they read beside the writing
        }
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_lock(&r->lock);
    r->done = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void run_race(fixture *f, bool retains) {
    static seen s;
    f->options.sync = TOB_JOURNAL_SYNC_NEVER;
    tob_journal *journal = open_ok(f, &s, NULL);
    race r = {.f = f, .end = tob_journal_end(journal), .retains = retains};
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.changed, NULL);
    // Beside deletion the first segments may be gone before a reader has begun.
    follower followers[2] = {{.r = &r, .index = 0, .next_id = 1, .skips = retains},
                             {.r = &r, .index = 1, .next_id = 1, .skips = retains}};
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    }
    write_race(&r, journal);
    for (size_t i = 0; i < 2; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
        assert_int_equal(followers[i].next_id, RACE_RECORDS + 1);
        assert_true(retains || followers[i].count == RACE_RECORDS);
    }
    pthread_cond_destroy(&r.changed);
    pthread_mutex_destroy(&r.lock);
    tob_journal_close(journal);
}

static void readers_beside_the_writer_see_every_record_in_order(void **state) {
    run_race(*state, false);
}

static void readers_beside_deletion_see_what_is_left_or_that_it_is_gone(void **state) {
    run_race(*state, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_reads_from_any_record_up_to_any_other),
        TEST(it_begins_with_the_oldest),
        TEST(what_lies_before_a_missing_segment_is_not_the_oldest),
        TEST(an_empty_journal_has_nothing),
        TEST(it_stops_at_so_many_bytes_but_reads_at_least_one),
        TEST(what_the_caller_refuses_is_not_behind_the_next_place),
        TEST(no_other_place_is_taken),
        TEST(damage_is_told_from_a_place_that_never_was),
        TEST(a_last_segment_without_records_is_an_end),
        TEST(readers_beside_the_writer_see_every_record_in_order),
        TEST(readers_beside_deletion_see_what_is_left_or_that_it_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
