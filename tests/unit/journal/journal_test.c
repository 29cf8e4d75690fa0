#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fixture.h"
#include "journal/crc32c.h"

// The journal's syncs are these: they can be told to fail. The disk need not have anything: power_loss_test.c is about that.
static int failing_syncs;
int fdatasync(int fd) {
    if (failing_syncs > 0) {
        failing_syncs--;
        errno = EIO;
        return -1;
    }
    (void)fd;
    return 0;
}

int fsync(int fd) {
    (void)fd;
    return 0;
}

static void what_was_synced_is_read_back_in_order_with_its_positions(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 0);
    tob_position at[5];
    size_t sizes[5] = {0, 1, 7, 8, 5000};
    for (uint8_t i = 0; i < 5; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), sizes[i]);
        if (i % 2) {
            sync_ok(journal);
        }
    }
    sync_ok(journal);
    tob_position end = tob_journal_end(journal);
    assert_true(tob_position_compare(at[4], end) < 0);
    tob_journal_close(journal);

    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(tob_position_compare(s.at[i], at[i]), 0);
        assert_int_equal(s.n[i], sizes[i]);
        assert_int_equal(s.byte[i], sizes[i] ? i + 1 : 0);
    }
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
    tob_journal_close(journal);
}

static void a_record_of_several_parts_is_their_concatenation(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_journal_part parts[] = {{"aa", 2}, {NULL, 0}, {"aaa", 3}};
    tob_position at;
    assert_int_equal(tob_journal_append(journal, parts, 3, &at), TOB_OK);
    sync_ok(journal);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.n[0], 5);
    tob_journal_close(journal);
}

static void what_was_not_synced_is_not_there(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 100);
    sync_ok(journal);
    append(journal, 2, 100);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 1);
    tob_journal_close(journal);
}

static void segments_rotate_within_one_sync_and_are_read_as_one_row(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position at[30];
    for (uint8_t i = 0; i < 30; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), 300000);
        if (i % 7 == 6) {
            sync_ok(journal);
        }
    }
    sync_ok(journal);
    assert_int_equal(tob_journal_end(journal).segment, 10); // three to a segment
    assert_true(tob_journal_bytes(journal) >= 30u * 300000);
    assert_true(tob_journal_bytes(journal) < 31u * 300000 + SEGMENT);
    uint64_t bytes = tob_journal_bytes(journal);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 30);
    for (size_t i = 0; i < 30; i++) {
        assert_int_equal(tob_position_compare(s.at[i], at[i]), 0);
        assert_int_equal(s.byte[i], i + 1);
    }
    assert_int_equal(tob_journal_bytes(journal), bytes);
    append(journal, 99, 10);
    sync_ok(journal);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 31);
    tob_journal_close(journal);
}

static void a_record_of_32_mib_is_stored_and_one_byte_more_is_refused(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 10);
    append(journal, 2, TOB_JOURNAL_MAX_RECORD_BYTES);
    append(journal, 3, 10);
    uint8_t *bytes = calloc(1, TOB_JOURNAL_MAX_RECORD_BYTES + 1);
    tob_journal_part parts[] = {{bytes, TOB_JOURNAL_MAX_RECORD_BYTES}, {bytes, 1}};
    tob_position at = {77, 77};
    assert_int_equal(tob_journal_append(journal, parts, 2, &at), TOB_TOO_LARGE);
    assert_int_equal(at.segment, 77);
    parts[0].n++;
    assert_int_equal(tob_journal_append(journal, parts, 1, &at), TOB_TOO_LARGE);
    free(bytes);
    sync_ok(journal);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.n[1], TOB_JOURNAL_MAX_RECORD_BYTES);
    assert_int_equal(s.at[1].segment, 2);
    assert_int_equal(s.at[2].segment, 3);
    tob_journal_close(journal);
}

static void more_than_the_queue_holds_is_busy_until_the_next_sync(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    uint8_t *bytes = calloc(1, TOB_JOURNAL_MAX_RECORD_BYTES);
    tob_journal_part part = {bytes, TOB_JOURNAL_MAX_RECORD_BYTES};
    tob_position at;
    size_t count = 0;
    tob_error err = TOB_OK;
    while (count < 9 && !(err = tob_journal_append(journal, &part, 1, &at))) {
        count++;
    }
    free(bytes);
    assert_int_equal(err, TOB_BUSY);
    assert_int_equal(count, TOB_JOURNAL_MAX_QUEUED_BYTES / TOB_JOURNAL_MAX_RECORD_BYTES - 1);
    tob_journal_close(journal);
}

// Three records in three syncs, and then one sync of three: 1, 2, 3, (4, 5, 6).
static void make_small(const fixture *f, size_t ret_end[7], uint8_t **ret_bytes, size_t *ret_n) {
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    char path[160];
    size_t sizes[] = {0, 30, 1, 600, 25, 700, 41};
    size_t end = 40;
    ret_end[0] = end;
    for (uint8_t i = 1; i <= 6; i++) {
        tob_position at = append(journal, i, sizes[i]);
        ret_end[i] = at.offset + 16 + sizes[i]; // without padding
        if (i <= 3) {
            sync_ok(journal);
        }
    }
    sync_ok(journal);
    end = tob_journal_end(journal).offset;
    tob_journal_close(journal);
    segment_path(f, 1, path);
    size_t n = 0;
    *ret_bytes = read_file(path, &n);
    assert_int_equal(n, SEGMENT); // preallocated
    *ret_n = end;
}

static void a_journal_cut_at_any_byte_keeps_exactly_the_whole_records_before(void **state) {
    fixture *f = *state;
    uint8_t *bytes = NULL;
    size_t n = 0, end[7];
    char path[160];
    make_small(f, end, &bytes, &n);
    segment_path(f, 1, path);
    for (size_t cut = 0; cut <= n; cut++) {
        seen s = {0};
        uint64_t cut_bytes = 0;
        write_file(path, bytes, cut);
        size_t whole = 0;
        while (whole < 6 && end[whole + 1] <= cut) {
            whole++;
        }
        tob_journal *journal = open_ok(f, &s, &cut_bytes);
        assert_int_equal(s.count, whole);
        append(journal, 200, 10); // it goes on behind
        sync_ok(journal);
        tob_journal_close(journal);
        journal = open_ok(f, &s, NULL);
        assert_int_equal(s.count, whole + 1);
        assert_int_equal(s.byte[whole], 200);
        tob_journal_close(journal);
    }
    free(bytes);
}

// Sectors of the last sync that did not reach the disk read as zeros, in any combination.
static void any_sectors_missing_of_the_last_sync_cut_it_and_of_an_earlier_one_are_damage(void **state) {
    fixture *f = *state;
    uint8_t *bytes = NULL;
    size_t n = 0, end[7];
    char path[160];
    make_small(f, end, &bytes, &n);
    segment_path(f, 1, path);
    size_t group = (end[3] + 7) / 8 * 8; // where the last sync begins
    size_t first = group / 512, sectors = (n + 511) / 512;
    for (size_t mask = 1; mask < (size_t)1 << (sectors - first); mask++) {
        uint8_t *torn = calloc(1, SEGMENT);
        memcpy(torn, bytes, n);
        size_t from = n;
        for (size_t i = first; i < sectors; i++) {
            if (mask >> (i - first) & 1) {
                size_t at = i * 512 > group ? i * 512 : group;
                memset(torn + at, 0, (i + 1) * 512 - at);
                from = at < from ? at : from;
            }
        }
        write_file(path, torn, SEGMENT);
        free(torn);
        seen s = {0};
        uint64_t cut_bytes = 0;
        tob_journal *journal = open_ok(f, &s, &cut_bytes);
        size_t whole = 3;
        while (whole < 6 && end[whole + 1] <= from) {
            whole++;
        }
        assert_int_equal(s.count, whole);
        tob_journal_close(journal);
    }
    // A sector of what was synced earlier.
    memset(bytes + 512 - 8, 0, 8);
    memset(bytes + 40, 0, 512 - 40);
    write_file(path, bytes, n);
    seen s = {0};
    tob_journal *journal = NULL;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, "journal-0000000000000001.seg at offset 40: "));
    assert_null(journal);
    free(bytes);
}

static void a_flipped_bit_is_refused_or_cut_and_never_a_wrong_payload(void **state) {
    fixture *f = *state;
    uint8_t *bytes = NULL;
    size_t n = 0, end[7];
    char path[160];
    make_small(f, end, &bytes, &n);
    segment_path(f, 1, path);
    size_t refused = 0, cut_short = 0;
    for (size_t at = 0; at < n; at++) {
        size_t record = 0; // that the byte belongs to; 0: the header
        while (record < 6 && at >= (end[record] + 7) / 8 * 8) {
            record++;
        }
        bool padding = record > 0 && at >= end[record];
        for (int bit = 0; bit < 8; bit += at % 3 ? 7 : 1) {
            bytes[at] = (uint8_t)(bytes[at] ^ (1u << bit));
            write_file(path, bytes, n);
            bytes[at] = (uint8_t)(bytes[at] ^ (1u << bit));
            seen s = {0};
            tob_journal *journal = NULL;
            uint64_t cut = 0;
            tob_journal_problem problem = {""};
            tob_error err = try_open(f, &s, &journal, &cut, &problem);
            assert_false(s.uneven);
            for (size_t i = 0; i < s.count; i++) {
                assert_int_equal(s.byte[i], i + 1);
            }
            if (err) {
                assert_int_equal(err, TOB_DAMAGED);
                assert_non_null(strstr(problem.text, "journal-0000000000000001.seg at offset"));
                refused++;
            } else if (padding || (at >= 36 && at < 40)) {
                assert_int_equal(s.count, 6);
            } else {
                // Only a record of the last sync may be cut, and only the last of them by its length.
                assert_true(record > 3);
                assert_int_equal(s.count, record - 1);
                cut_short++;
            }
            tob_journal_close(journal);
        }
    }
    assert_true(refused > 1000);
    assert_int_equal(cut_short, 0); // all of it was written: refused
    free(bytes);
}

static void damage_in_a_segment_that_is_not_the_last_is_refused(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    for (uint8_t i = 0; i < 8; i++) {
        append(journal, (uint8_t)(i + 1), 300000);
        sync_ok(journal);
    }
    assert_int_equal(tob_journal_end(journal).segment, 3);
    tob_journal_close(journal);
    char path[160], kept[200];
    for (unsigned number = 1; number <= 2; number++) {
        segment_path(f, number, path);
        size_t n = 0;
        uint8_t *bytes = read_file(path, &n);
        uint64_t cut = 0;
        tob_journal_problem problem = {""};
        journal = NULL;
        write_file(path, bytes, n - 300016); // its last record is gone
        assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
        write_file(path, bytes, n - 1);
        assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
        write_file(path, bytes, 20);
        assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
        bytes[n - 5000] ^= 1;
        write_file(path, bytes, n);
        assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
        assert_non_null(strstr(problem.text, path));
        bytes[n - 5000] ^= 1;
        write_file(path, bytes, n);
        free(bytes);
    }
    // The next segment says that this one ends within a record.
    segment_path(f, 2, path);
    size_t header_n = 0;
    uint8_t *second = read_file(path, &header_n);
    uint8_t header[40];
    memcpy(header, second, sizeof(header));
    header[24] = (uint8_t)(header[24] - 8);
    uint32_t crc = tob_crc32c(0, header, 32);
    memcpy(header + 32, &crc, sizeof(crc));
    patch_file(path, header, sizeof(header));
    uint64_t none = 0;
    tob_journal_problem elsewhere = {""};
    assert_int_equal(try_open(f, &s, &journal, &none, &elsewhere), TOB_DAMAGED);
    assert_non_null(strstr(elsewhere.text, "ends elsewhere"));
    patch_file(path, second, sizeof(header));
    free(second);
    snprintf(kept, sizeof(kept), "%s/kept", f->dir);
    segment_path(f, 2, path);
    assert_int_equal(rename(path, kept), 0);
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, "journal-0000000000000002.seg at offset 0: the segment is missing"));
    assert_int_equal(rename(kept, path), 0);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 8);
    tob_journal_close(journal);
    // The oldest may go: that is what retention does.
    segment_path(f, 1, path);
    assert_int_equal(unlink(path), 0);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 5);
    tob_journal_close(journal);
}

static void a_segment_whose_making_was_interrupted_is_made_again(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 100);
    sync_ok(journal);
    tob_journal_close(journal);
    char path[160];
    segment_path(f, 2, path);
    uint8_t *zeros = calloc(1, SEGMENT);
    size_t sizes[] = {0, 17, 40, SEGMENT};
    for (size_t i = 0; i < 4; i++) {
        write_file(path, zeros, sizes[i]);
        uint64_t cut = 0;
        journal = open_ok(f, &s, &cut);
        assert_int_equal(s.count, 1);
        assert_int_equal(tob_journal_end(journal).segment, 1);
        tob_journal_close(journal);
        assert_int_equal(access(path, F_OK), -1);
    }
    zeros[5000] = 1; // content without a header is damage
    write_file(path, zeros, SEGMENT);
    free(zeros);
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_DAMAGED);
}

// Appends `n` bytes as a record, tears its last byte off and expects the record to be cut, whatever is in it.
static void expect_torn(const fixture *f, const uint8_t *bytes, size_t n, size_t records_before) {
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, records_before);
    tob_position at;
    tob_journal_part part = {bytes, n};
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_OK);
    sync_ok(journal);
    tob_journal_close(journal);
    char path[160];
    segment_path(f, 1, path);
    assert_int_equal(truncate(path, (off_t)(at.offset + 16 + n - 1)), 0);
    uint64_t cut = 0;
    journal = open_ok(f, &s, &cut);
    assert_int_equal(s.count, records_before);
    assert_in_range(cut, 1, 16 + n - 1); // without the zeros at its end
    tob_journal_close(journal);
}

static void a_payload_that_holds_records_is_only_a_payload(void **state) {
    fixture *f = *state;
    uint8_t *bytes = NULL;
    size_t n = 0, end[7];
    make_small(f, end, &bytes, &n);
    // Another journal's, at another offset and at the offset where they were.
    for (size_t shift = 40; shift <= 56; shift += 16) {
        fixture other = *f;
        snprintf(other.journal, sizeof(other.journal), "%s/other-%zu", f->dir, shift);
        expect_torn(&other, bytes + shift, n - shift, 0);
    }
    expect_torn(f, bytes + 40, n - 40, 6); // its own
    free(bytes);
}

static void a_journal_that_is_open_is_busy(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL), *second = NULL;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &second, &cut, &problem), TOB_BUSY);
    assert_non_null(strstr(problem.text, "another process has"));
    assert_null(second);
    tob_journal_close(journal);
    tob_journal_close(open_ok(f, &s, NULL));
}

static void a_newer_format_is_refused_as_such(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal_close(open_ok(f, &s, NULL));
    char path[160];
    segment_path(f, 1, path);
    size_t n = 0;
    uint8_t *bytes = read_file(path, &n);

    bytes[4] = 2;
    uint32_t crc = tob_crc32c(0, bytes, 32);
    memcpy(bytes + 32, &crc, 4);
    write_file(path, bytes, n);
    free(bytes);
    tob_journal *journal = NULL;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "newer"));
}

static void what_the_reader_refuses_ends_the_opening(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 10);
    sync_ok(journal);
    tob_journal_close(journal);
    journal = NULL;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    s.refuse = TOB_MALFORMED;
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_MALFORMED);
    assert_non_null(strstr(problem.text, "at offset 40"));
    s.refuse = TOB_OK;
    tob_journal_close(open_ok(f, &s, NULL));
}

static void files_are_for_their_owner_only(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal_close(open_ok(f, &s, NULL));
    char path[160];
    struct stat st;
    segment_path(f, 1, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(f->journal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void segment_sizes_outside_the_limits_are_refused(void **state) {
    fixture *f = *state;
    uint64_t sizes[] = {TOB_JOURNAL_MIN_SEGMENT - 1, TOB_JOURNAL_MAX_SEGMENT + 1};
    for (size_t i = 0; i < 2; i++) {
        tob_journal_options options = {.dir = f->journal, .segment_bytes = sizes[i]};
        tob_journal *journal = NULL;
        uint64_t cut = 0;
        seen s = {0};
        tob_journal_problem problem = {""};
        assert_int_equal(tob_journal_open(&options, see, &s, &journal, &cut, &problem), TOB_INVALID);
        assert_true(problem.text[0]);
    }
}

static void limit_file_size(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void expect_dropped(tob_journal *journal) {
    bool fatal = true;
    tob_journal_problem problem = {""};
    tob_position end = tob_journal_end(journal);
    assert_int_equal(tob_journal_sync(journal, &fatal, &problem), TOB_IO);
    assert_false(fatal);
    assert_non_null(strstr(problem.text, "writing failed"));
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
}

static void a_write_that_does_not_fit_is_dropped_whole_and_the_journal_goes_on_later(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 1000);
    sync_ok(journal);
    // In the segment: a record larger than the segment goes into the next; after 400 KB no byte can be
    // written.
    limit_file_size(400000);
    append(journal, 50, 300000);
    append(journal, 51, 300000);
    expect_dropped(journal);
    // In a new segment, after a part went into the old one.
    append(journal, 60, 300000);
    append(journal, 61, 20 << 20);
    expect_dropped(journal);
    // The same, with room to allocate.
    limit_file_size(4 << 20);
    append(journal, 70, 300000);
    append(journal, 71, 20 << 20);
    expect_dropped(journal);
    tob_position at = append(journal, 2, 1000);
    sync_ok(journal);
    assert_int_equal(at.segment, 1);
    limit_file_size(RLIM_INFINITY);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL); // nothing is left of what was dropped
    assert_int_equal(s.count, 2);
    append(journal, 3, 2 << 20);
    sync_ok(journal);
    assert_int_equal(tob_journal_end(journal).segment, 2);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(s.byte[i], i + 1);
    }
    tob_journal_close(journal);
}

static void a_failed_fdatasync_is_fatal_and_stays_so(void **state) {
    fixture *f = *state;
    seen s = {0};
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 10);
    sync_ok(journal);
    append(journal, 2, 10);
    failing_syncs = 1;
    for (int i = 0; i < 2; i++) {
        bool fatal = false;
        tob_journal_problem problem = {""};
        assert_int_equal(tob_journal_sync(journal, &fatal, &problem), TOB_IO);
        assert_true(fatal);
        assert_true(problem.text[0]);
    }
    tob_position at;
    tob_journal_part part = {"x", 1};
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_IO);
    assert_int_equal(failing_syncs, 0);
    tob_journal_close(journal);
    journal = open_ok(f, &s, NULL);
    assert_true(s.count >= 1);
    tob_journal_close(journal);
}

static void a_process_that_is_killed_leaves_all_it_acknowledged(void **state) {
    fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        int acks[2];
        assert_int_equal(pipe(acks), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            seen s = {0};
            tob_journal *journal = NULL;
            uint64_t cut = 0;
            tob_journal_problem problem;
            if (try_open(f, &s, &journal, &cut, &problem)) {
                _exit(1);
            }
            for (uint8_t i = 1;; i++) {
                append(journal, i ? i : 1, 20000);
                append(journal, i ? i : 1, 3000);
                bool fatal;
                if (tob_journal_sync(journal, &fatal, &problem) || write(acks[1], "", 1) != 1) {
                    _exit(1);
                }
            }
        }
        close(acks[1]);
        size_t acked = 0;
        char ack;
        while (acked < 70 && read(acks[0], &ack, 1) == 1) {
            acked++;
        }
        kill(pid, SIGKILL);
        while (read(acks[0], &ack, 1) == 1) {
            acked++;
        }
        close(acks[0]);
        waitpid(pid, NULL, 0);
        assert_true(acked >= 70);
        static size_t before;
        before = round ? before : 0;
        seen s = {0};
        uint64_t cut = 0;
        tob_journal_close(open_ok(f, &s, &cut));
        assert_true(s.count >= before + 2 * acked);
        before = s.count;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_synced_is_read_back_in_order_with_its_positions),
        TEST(a_record_of_several_parts_is_their_concatenation),
        TEST(what_was_not_synced_is_not_there),
        TEST(segments_rotate_within_one_sync_and_are_read_as_one_row),
        TEST(a_record_of_32_mib_is_stored_and_one_byte_more_is_refused),
        TEST(more_than_the_queue_holds_is_busy_until_the_next_sync),
        TEST(a_journal_cut_at_any_byte_keeps_exactly_the_whole_records_before),
        TEST(any_sectors_missing_of_the_last_sync_cut_it_and_of_an_earlier_one_are_damage),
        TEST(a_flipped_bit_is_refused_or_cut_and_never_a_wrong_payload),
        TEST(damage_in_a_segment_that_is_not_the_last_is_refused),
        TEST(a_segment_whose_making_was_interrupted_is_made_again),
        TEST(a_payload_that_holds_records_is_only_a_payload),
        TEST(a_journal_that_is_open_is_busy),
        TEST(a_newer_format_is_refused_as_such),
        TEST(what_the_reader_refuses_ends_the_opening),
        TEST(files_are_for_their_owner_only),
        TEST(segment_sizes_outside_the_limits_are_refused),
        TEST(a_write_that_does_not_fit_is_dropped_whole_and_the_journal_goes_on_later),
        TEST(a_failed_fdatasync_is_fatal_and_stays_so),
        TEST(a_process_that_is_killed_leaves_all_it_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
