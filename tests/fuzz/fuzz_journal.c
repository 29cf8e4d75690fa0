// Opening a journal, or reading a checkpoint, whose files are not what they should be. The first byte's bits:
//   1   the input says which records there are and how the files are damaged then; otherwise it is the first file itself
//   2   a checkpoint, not a journal
//   4   three bytes follow: a place in the journal where reading is to begin
//
// Promises: a record is only handed out when its bytes pass its check; of a damaged journal only records that
// were written come back, in order, none left out between two; one that opens goes on: what is appended is there
// the next time. From a place that is no record's nothing is read. A reader beside the journal sees the same records as its
// opening. A damaged checkpoint is refused.
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "journal/checkpoint.h"
#include "journal/crc32c.h"
#include "journal/reader.h"
#include "journal/segment.h"

enum {
    BUILT = 1, // bits of the first byte
    CHECKPOINT = 2,
    PLACE = 4,
    SEGMENTS = 2,
    MAX_RECORDS = 24,
    MAX_PAYLOAD = 1500,
    MAX_EDITS = 8,
    FILE_BYTES = 64 << 10,
};

typedef struct image {
    uint8_t bytes[FILE_BYTES];
    size_t n;
} image;

// What was written, and what came back.
typedef struct journal_case {
    image files[SEGMENTS];
    size_t file_count;
    struct written {
        tob_position at;
        size_t n;               // of the payload
    } records[MAX_RECORDS + 1]; // and a checkpoint's empty one
    size_t record_count;
    bool built; // by us: `records` says what is in it
    bool is_checkpoint;
    tob_position from; // where reading begins; {0, 0}: the oldest
    size_t came_back;
    size_t next; // record that comes next, when built
} journal_case;

static char dir[64];
static const tob_position checkpoint_at = {7, 4096};

static void path_of(uint64_t segment, char path[128]) {
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(segment, name);
    FUZZ_CHECK(snprintf(path, 128, "%s/%s", dir, name) < 128);
}

static void checkpoint_path(char path[128]) {
    char name[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(checkpoint_at.segment, checkpoint_at.offset, name);
    FUZZ_CHECK(snprintf(path, 128, "%s/%s", dir, name) < 128);
}

static void remove_files(void) {
    char path[128];
    checkpoint_path(path);
    unlink(path);
    for (uint64_t segment = 1; segment <= SEGMENTS + 2; segment++) {
        path_of(segment, path);
        unlink(path);
    }
}

static void remove_dir(void) {
    char path[128];
    remove_files();
    snprintf(path, sizeof(path), "%s/lock", dir);
    unlink(path);
    rmdir(dir);
}

static void make_dir(void) {
    const char *parent = getenv("TMPDIR");
    FUZZ_CHECK(snprintf(dir, sizeof(dir), "%s/fuzz-journal-XXXXXX", parent ? parent : "/tmp") <
               (int)sizeof(dir));
    FUZZ_CHECK(mkdtemp(dir));
    atexit(remove_dir);
}

static void write_files(const journal_case *c) {
    remove_files();
    for (size_t i = 0; i < c->file_count; i++) {
        char path[128];
        if (c->is_checkpoint) {
            checkpoint_path(path);
        } else {
            path_of(i + 1, path);
        }
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FUZZ_CHECK(fd >= 0 && write(fd, c->files[i].bytes, c->files[i].n) == (ssize_t)c->files[i].n);
        close(fd);
    }
}

// The payload of record i: the same bytes for the same i.
static uint8_t payload_byte(size_t i, size_t at) {
    return (uint8_t)(i * 31 + at * 7 + 1);
}

static void begin_file(journal_case *c, uint64_t salt, uint64_t previous_end) {
    image *file = &c->files[c->file_count++];
    tob_segment_header header = {.segment = c->file_count, .salt = salt, .previous_end = previous_end};
    tob_segment_header_encode(&header, file->bytes);
    file->n = TOB_SEGMENT_HEADER_BYTES;
}

static void add_record(journal_case *c, uint64_t salt, size_t n, uint64_t *group) {
    image *file = &c->files[c->file_count - 1];
    uint64_t offset = file->n;
    size_t index = c->record_count++;
    uint8_t *payload = file->bytes + offset + TOB_RECORD_HEADER_BYTES;
    for (size_t i = 0; i < n; i++) {
        payload[i] = payload_byte(index, i);
    }
    *group = *group ? *group : offset;
    tob_record_header header = {.length = (uint32_t)n,
                                .payload_crc = tob_crc32c(0, payload, n),
                                .group_offset = *group};
    tob_record_header_encode(&header, salt, offset, file->bytes + offset);
    file->n += tob_record_bytes(n);
    c->records[index] = (struct written){{c->file_count, offset}, n};
}

// Each record is two bytes: its length, and in the two top bits: begin a group, begin a segment.
static void build(journal_case *c, const uint8_t **data, size_t *n) {
    const uint64_t salt = 0x5eed;
    uint64_t group = 0;
    size_t count = fuzz_take_byte(data, n) % (MAX_RECORDS + 1);
    begin_file(c, salt, 0);
    for (size_t i = 0; i < count; i++) {
        unsigned what = fuzz_take_u16(data, n);
        if (what >> 15 && c->file_count < SEGMENTS && !c->is_checkpoint) {
            begin_file(c, salt + c->file_count, c->files[c->file_count - 1].n);
            group = 0;
        } else if (what >> 14 & 1) {
            group = 0;
        }
        size_t length = (what & 0x3fff) % (MAX_PAYLOAD + 1);
        add_record(c, salt + c->file_count - 1, c->is_checkpoint && !length ? 1 : length, &group);
    }
    if (c->is_checkpoint) {
        tob_checkpoint_header header = {checkpoint_at.segment, salt, checkpoint_at.offset};
        tob_checkpoint_header_encode(&header, c->files[0].bytes);
        add_record(c, salt, 0, &group);
        c->record_count--; // the empty one at the end
    }
    c->built = true;
}

// Each edit is four bytes: kind and file, place, value.
static bool damage(journal_case *c, const uint8_t **data, size_t *n) {
    bool changed = false;
    for (size_t edits = 0; *n >= 4 && edits < MAX_EDITS; edits++) {
        uint8_t kind = fuzz_take_byte(data, n);
        image *file = &c->files[(kind >> 7) % c->file_count];
        size_t at = fuzz_take_u16(data, n);
        uint8_t value = fuzz_take_byte(data, n);
        size_t rest = at < file->n ? file->n - at : 0;
        if (rest == 0) {
            continue;
        }
        changed = true;
        switch (kind % 4) {
        case 0: file->bytes[at] ^= value; break;
        case 1: file->n = at; break;                                                       // cut
        case 2: memset(file->bytes + at, 0, rest); break;                                  // never written
        case 3: memset(file->bytes + at, 0, rest < 512u ? rest : 512u - at % 512u); break; // a lost sector
        }
    }
    return changed;
}

static tob_error on_record(void *user, tob_position at, const void *payload, size_t n) {
    journal_case *c = user;
    FUZZ_CHECK(c->is_checkpoint ? at.segment == 0 : at.segment >= 1 && at.segment <= c->file_count);
    at.segment += c->is_checkpoint;
    const image *file = &c->files[at.segment - 1];
    FUZZ_CHECK(at.offset >= TOB_SEGMENT_HEADER_BYTES && at.offset + TOB_RECORD_HEADER_BYTES + n <= file->n);
    FUZZ_CHECK(memcmp(payload, file->bytes + at.offset + TOB_RECORD_HEADER_BYTES, n) == 0);
    const uint8_t *header = file->bytes + at.offset;
    uint32_t crc = (uint32_t)header[4] | (uint32_t)header[5] << 8 | (uint32_t)header[6] << 16 |
                   (uint32_t)header[7] << 24;
    FUZZ_CHECK(crc == tob_crc32c(0, payload, n));
    if (c->built) {
        size_t index = c->next++;
        FUZZ_CHECK(index < c->record_count && tob_position_compare(c->records[index].at, at) == 0);
        FUZZ_CHECK(c->records[index].n == n);
        for (size_t i = 0; i < n; i++) {
            FUZZ_CHECK(((const uint8_t *)payload)[i] == payload_byte(index, i));
        }
    }
    c->came_back++;
    return TOB_OK;
}

static tob_error count_record(void *user, tob_position at, const void *payload, size_t n) {
    (void)at;
    (void)payload;
    (void)n;
    ++*(size_t *)user;
    return TOB_OK;
}

static const tob_journal_options *options(tob_position from) {
    static tob_journal_options journal_options = {.segment_bytes = TOB_JOURNAL_MIN_SEGMENT,
                                                  .sync = TOB_JOURNAL_SYNC_NEVER};
    journal_options.dir = dir;
    journal_options.from = from;
    return &journal_options;
}

// Appends one record to the open journal and finds it again.
static void check_goes_on(tob_journal *journal, tob_position from, size_t records) {
    const tob_journal_part part = {"more", 4};
    tob_journal_problem problem = {.text = ""};
    tob_position at;
    bool fatal = false;
    uint64_t cut = 0;
    size_t count = 0;
    FUZZ_CHECK(tob_journal_append(journal, &part, 1, &at) == TOB_OK);
    FUZZ_CHECK(tob_journal_sync(journal, &fatal, &problem) == TOB_OK && !fatal);
    tob_journal_close(journal);
    journal = NULL;
    tob_error err = tob_journal_open(options(from), count_record, &count, &journal, &cut, &problem);
    FUZZ_CHECK(err == TOB_OK && cut == 0 && count == records + 1);
    tob_journal_close(journal);
}

// Makes the records at and behind `from` the ones that are to come. False when it is no record's place nor an end.
static bool expect_from(journal_case *c, tob_position from) {
    c->came_back = 0;
    c->next = 0;
    bool is_place = from.segment == 0;
    for (size_t i = 0; i < c->record_count; i++) {
        const struct written *r = &c->records[i];
        tob_position end = {r->at.segment, r->at.offset + tob_record_bytes(r->n)};
        is_place |= tob_position_compare(from, r->at) == 0 || tob_position_compare(from, end) == 0;
        c->next += tob_position_compare(r->at, from) < 0;
    }
    return is_place || from.offset == TOB_SEGMENT_HEADER_BYTES;
}

// Beside the open journal: what opening found, a little at a time.
static void check_reader(journal_case *c, const tob_journal *journal) {
    tob_journal_reader *reader = NULL;
    tob_journal_problem problem = {.text = ""};
    size_t expected = c->came_back;
    tob_position at = c->from, end = tob_journal_end(journal);
    FUZZ_CHECK(tob_journal_reader_new(dir, &reader) == TOB_OK);
    (void)expect_from(c, at);
    do {
        tob_error err = tob_journal_read(reader, at, end, 1000, on_record, c, &at, &problem);
        FUZZ_CHECK(err == TOB_OK);
    } while (tob_position_compare(at, end) < 0 && c->came_back < expected);
    FUZZ_CHECK(c->came_back == expected);
    tob_journal_reader_free(reader);
}

// Reads from anywhere: what comes is a record.
static void check_reader_from(journal_case *c, const tob_journal *journal, tob_position from) {
    tob_journal_reader *reader = NULL;
    tob_journal_problem problem = {.text = ""};
    tob_position next;
    bool is_place = expect_from(c, from);
    FUZZ_CHECK(tob_journal_reader_new(dir, &reader) == TOB_OK);
    tob_error err =
        tob_journal_read(reader, from, tob_journal_end(journal), UINT64_MAX, on_record, c, &next, &problem);
    FUZZ_CHECK(err == TOB_OK || err == TOB_NOT_FOUND || err == TOB_DAMAGED);
    FUZZ_CHECK(!c->built || is_place || c->came_back == 0);
    tob_journal_reader_free(reader);
}

static void try_checkpoint(journal_case *c, bool changed) {
    tob_journal_problem problem = {.text = ""};
    uint64_t bytes = 0;
    tob_error err = tob_checkpoint_read(dir, checkpoint_at, on_record, c, &bytes, &problem);
    FUZZ_CHECK(err == TOB_OK || err == TOB_DAMAGED || err == TOB_PRECONDITION);
    if (err) {
        FUZZ_CHECK(changed && problem.text[0]);
    } else {
        FUZZ_CHECK(bytes == c->files[0].n && (!c->built || c->came_back == c->record_count));
    }
}

static void try_journal(journal_case *c, bool changed) {
    tob_journal *journal = NULL;
    uint64_t cut = 0;
    tob_journal_problem problem = {.text = ""};
    bool is_place = expect_from(c, c->from);
    size_t first = c->next;
    tob_error err = tob_journal_open(options(c->from), on_record, c, &journal, &cut, &problem);
    if (err) {
        FUZZ_CHECK(err == TOB_DAMAGED || err == TOB_PRECONDITION);
        FUZZ_CHECK((changed || c->from.segment) && problem.text[0]);
        return;
    }
    size_t records = c->came_back;
    FUZZ_CHECK(!c->built || is_place);
    FUZZ_CHECK(changed || (cut == 0 && records == c->record_count - first));
    check_reader(c, journal);
    check_reader_from(c, journal, (tob_position){1 + records % SEGMENTS, 40 + 8 * (cut % 100)});
    check_goes_on(journal, c->from, records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static journal_case c;
    if (!dir[0]) {
        make_dir();
    }
    if (n >= FILE_BYTES) {
        return 0;
    }
    memset(&c, 0, sizeof(c));
    bool changed = true;
    uint8_t kind = fuzz_take_byte(&data, &n);
    c.is_checkpoint = kind & CHECKPOINT;
    if (kind & PLACE) {
        c.from.segment = fuzz_take_byte(&data, &n) % (SEGMENTS + 2);
        c.from.offset = c.from.segment ? fuzz_take_u16(&data, &n) : 0;
    }
    if (kind & BUILT) {
        build(&c, &data, &n);
        changed = damage(&c, &data, &n);
    } else {
        memcpy(c.files[0].bytes, data, n);
        c.files[0].n = n;
        c.file_count = 1;
    }
    write_files(&c);
    if (c.is_checkpoint) {
        try_checkpoint(&c, changed);
    } else {
        try_journal(&c, changed);
    }
    return 0;
}
