#include "journal/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/scan.h"
#include "journal/segment.h"
#include "journal/verify_list.h"

#define LOOKS    5 // at the last segment, while somebody writes it
#define PAUSE_MS 20

static const char bad_header[] = "the header does not pass its check";

const char tob_verify_place_behind[] = "the journal ends before what the checkpoint has";
const char tob_verify_place_before[] = "the journal does not reach back to the checkpoint's place";
const char tob_verify_place_between[] = "the checkpoint's place is none of the journal's";

// One run.
typedef struct run {
    const tob_verify_options *options;
    tob_verify *verify;
    tob_journal_problem *problem;
    int dir_fd;
    bool checkpoint;     // what is being read
    tob_verify_file *at; // the checkpoint
    bool *places_found;  // one for each checkpoint: a record of the journal begins or ends there
} run;

static tob_error say_errno(const run *r, const char *name) {
    tob_journal_say(r->problem, "%s/%s: %s", r->options->dir, name, strerror(errno));
    return TOB_IO;
}

static void mark_place(run *r, tob_position at) {
    for (size_t i = 0; i < r->verify->checkpoint_count; i++) {
        r->places_found[i] |= tob_position_compare(r->verify->checkpoints[i].at, at) == 0;
    }
}

static tob_error on_record(void *user, tob_position at, const void *payload, size_t n, tob_verify_note *ret) {
    run *r = user;
    if (!r->checkpoint) {
        mark_place(r, at);
        return r->options->record(r->options->user, at, payload, n, ret);
    }
    if (r->at->ended) {
        ret->reason = "a record after the checkpoint's end";
        return TOB_DAMAGED;
    }
    if (n == 0) {
        r->at->ended = true;
        return TOB_OK;
    }
    tob_error err = r->options->checkpoint_record(r->options->user, r->at->at, payload, n, ret);
    r->at->head |= !err && ret->head;
    if (!err && tob_position_compare(ret->reaches, r->at->reaches) > 0) {
        r->at->reaches = ret->reaches;
    }
    return err;
}

// A lock that is given back at once: whoever looks must not keep ingestd from starting.
static bool is_in_use(int dir_fd) {
    int fd = openat(dir_fd, "lock", O_RDONLY | O_CLOEXEC);
    bool in_use = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0) {
        close(fd);
    }
    return in_use;
}

// ---- one file

static void forget_content(tob_verify_file *file) {
    free(file->holes);
    tob_verify_file kept = {.at = file->at, .missing = file->missing};
    memcpy(kept.name, file->name, sizeof(kept.name));
    *file = kept;
}

// A header with one wrong bit is still known: its check finds the bit.
static tob_error decode_corrected(const uint8_t bytes[TOB_SEGMENT_HEADER_BYTES], uint64_t number,
                                  tob_segment_header *ret) {
    enum { CHECKED_BITS = 36 * 8 };
    for (unsigned bit = 0; bit < CHECKED_BITS; bit++) {
        uint8_t corrected[TOB_SEGMENT_HEADER_BYTES];
        memcpy(corrected, bytes, sizeof(corrected));
        corrected[bit / 8] = (uint8_t)(corrected[bit / 8] ^ 1u << bit % 8);
        if (tob_segment_header_decode(corrected, ret) == TOB_OK && ret->segment == number) {
            return TOB_OK;
        }
    }
    return TOB_DAMAGED;
}

// What of a segment is known without its records. A last one without a header and anything else is unfinished.
static tob_error read_segment_header(run *r, tob_scan_file *f, bool last, tob_verify_file *s) {
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES] = {0};
    const uint8_t *view = NULL;
    tob_segment_header header = {0};
    s->bytes = f->bytes;
    size_t n = f->bytes < sizeof(bytes) ? (size_t)f->bytes : sizeof(bytes);
    tob_error err = n ? tob_scan_view(f, 0, n, &view) : TOB_OK;
    if (err) {
        return err;
    }
    memcpy(bytes, view ? view : bytes, n);
    err = n == sizeof(bytes) ? tob_segment_header_decode(bytes, &header) : TOB_DAMAGED;
    if (err == TOB_PRECONDITION) {
        tob_journal_say(r->problem, "%s/%s at offset 4: a newer version of this program wrote it",
                        r->options->dir, s->name);
        return err;
    }
    bool good = !err && header.segment == s->at.segment;
    if (!good && err && n == sizeof(bytes)) {
        err = decode_corrected(bytes, s->at.segment, &header);
    }
    if (!err) {
        s->salt_known = true;
        s->salt = header.salt;
        s->previous_end = header.segment == s->at.segment ? header.previous_end : 0;
        s->header = good ? NULL : bad_header;
        return TOB_OK;
    }
    bool empty = n < sizeof(bytes);
    if (!empty) {
        err = tob_scan_all_zero(f, &empty);
    } else {
        err = TOB_OK;
    }
    s->unfinished = last && empty;
    s->header = s->unfinished ? NULL : bad_header;
    return err || empty ? err : tob_scan_salt(f, &s->salt, &s->salt_known);
}

static tob_error read_checkpoint_header(run *r, tob_scan_file *f, tob_verify_file *c) {
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    const uint8_t *view = NULL;
    tob_checkpoint_header header = {0};
    c->bytes = f->bytes;
    c->header = bad_header;
    if (f->bytes < sizeof(bytes)) {
        return TOB_OK;
    }
    tob_error err = tob_scan_view(f, 0, sizeof(bytes), &view);
    if (err) {
        return err;
    }
    memcpy(bytes, view, sizeof(bytes));
    err = tob_checkpoint_header_decode(bytes, &header);
    if (err == TOB_PRECONDITION) {
        tob_journal_say(r->problem, "%s/%s at offset 4: a newer version of this program wrote it",
                        r->options->dir, c->name);
        return err;
    }
    if (!err) {
        c->salt_known = true;
        c->salt = header.salt;
        bool same = header.segment == c->at.segment && header.offset == c->at.offset;
        c->header = same ? NULL : bad_header;
        return TOB_OK;
    }
    return tob_scan_salt(f, &c->salt, &c->salt_known);
}

static tob_error read_checkpoint(run *r, tob_verify_file *c) {
    tob_scan_file f = {.fd = -1};
    tob_error err = tob_scan_open(r->dir_fd, c->name, &f);
    if (!err) {
        err = read_checkpoint_header(r, &f, c);
    }
    if (!err) {
        tob_scan_range range = {.segment = c->at.segment, .salt = c->salt};
        r->checkpoint = true;
        r->at = c;
        err = tob_scan_records(&f, &range, on_record, r, c);
        c->records -= c->ended;
    }
    if (!err && (!c->ended || c->end != f.bytes)) {
        err = tob_scan_add_hole(c, c->end, c->end > f.bytes ? c->end : f.bytes,
                                c->ended ? "bytes after the checkpoint's end"
                                         : "the checkpoint's end is missing");
    }
    if (!err && !c->head && !c->header && c->hole_count == 0) {
        err = tob_scan_add_hole(c, TOB_SEGMENT_HEADER_BYTES, TOB_SEGMENT_HEADER_BYTES,
                                "the checkpoint has no head");
    }
    if (err == TOB_IO) {
        err = say_errno(r, c->name);
    }
    tob_scan_close(&f);
    return err;
}

static tob_error read_segment(run *r, tob_verify_file *s, const tob_scan_range *range) {
    tob_scan_file f = {.fd = -1};
    tob_error err = tob_scan_open(r->dir_fd, s->name, &f);
    if (!err) {
        s->bytes = f.bytes;
        r->checkpoint = false;
        err = tob_scan_records(&f, range, on_record, r, s);
    }
    if (err == TOB_IO) {
        err = say_errno(r, s->name);
    }
    tob_scan_close(&f);
    return err;
}

// ---- all of them

static tob_error read_checkpoints(run *r) {
    tob_verify *v = r->verify;
    for (size_t i = 0; i < v->checkpoint_count; i++) {
        tob_error err = read_checkpoint(r, &v->checkpoints[i]);
        if (err == TOB_NOT_FOUND) { // a newer one has replaced it meanwhile
            forget_content(&v->checkpoints[i]);
            memmove(&v->checkpoints[i], &v->checkpoints[i + 1],
                    (v->checkpoint_count - i - 1) * sizeof(*v->checkpoints));
            v->checkpoint_count--;
            i--;
        } else if (err) {
            return err;
        }
    }
    return TOB_OK;
}

// Old segments may go while we look, the oldest first: those before one that is gone are gone too.
static void drop_segments(tob_verify *v, size_t count) {
    for (size_t i = 0; i < count; i++) {
        forget_content(&v->segments[i]);
    }
    v->segment_count -= count;
    memmove(&v->segments[0], &v->segments[count], v->segment_count * sizeof(*v->segments));
}

static tob_error read_headers(run *r) {
    tob_verify *v = r->verify;
    for (size_t i = 0; i < v->segment_count;) {
        tob_verify_file *s = &v->segments[i];
        tob_scan_file f = {.fd = -1};
        tob_error err = s->missing ? TOB_OK : tob_scan_open(r->dir_fd, s->name, &f);
        if (err == TOB_NOT_FOUND && v->in_use) {
            drop_segments(v, i + 1);
            i = 0;
            continue;
        }
        if (!err && !s->missing) {
            err = read_segment_header(r, &f, i + 1 == v->segment_count, s);
        }
        if (!err && i > 0 &&
            (s->previous_end < TOB_SEGMENT_HEADER_BYTES || s->previous_end % TOB_RECORD_ALIGN)) {
            bool known = !s->missing && !s->unfinished && !s->header;
            s->header = known ? "not a continuation of the segment before it" : s->header;
            s->previous_end = 0;
        }
        tob_scan_close(&f);
        if (err) {
            return err == TOB_IO || err == TOB_NOT_FOUND ? say_errno(r, s->name) : err;
        }
        i++;
    }
    return TOB_OK;
}

static void pause_a_little(void) {
    struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    nanosleep(&pause, NULL);
}

// Reads segment i, once the headers are known.
//   last   the index of the journal's last
static tob_error read_one_segment(run *r, size_t i, size_t last) {
    tob_verify *v = r->verify;
    tob_verify_file *s = &v->segments[i];
    const tob_verify_file *next = i + 1 < v->segment_count ? &v->segments[i + 1] : NULL;
    if (s->missing || s->unfinished) {
        s->end = TOB_SEGMENT_HEADER_BYTES;
        return TOB_OK;
    }
    tob_scan_range range = {.segment = s->at.segment,
                            .salt = s->salt,
                            .expected_end = next ? next->previous_end : 0,
                            .may_be_torn = i == last};
    tob_error err = read_segment(r, s, &range);
    // What is half written now is whole at the next look.
    for (int look = 1; !err && v->in_use && i == last && s->hole_count && look < LOOKS; look++) {
        tob_verify_file header = *s;
        pause_a_little();
        forget_content(s);
        s->salt_known = true;
        s->salt = header.salt;
        s->previous_end = header.previous_end;
        err = read_segment(r, s, &range);
    }
    if (!err) {
        mark_place(r, (tob_position){s->at.segment, s->end});
    }
    return err;
}

static tob_error read_segments(run *r) {
    tob_verify *v = r->verify;
    size_t last = v->segment_count;
    last -= last > 1 && v->segments[last - 1].unfinished ? 2 : 1;
    for (size_t i = 0; i < v->segment_count;) {
        tob_error err = read_one_segment(r, i, last);
        if (err == TOB_NOT_FOUND && v->in_use) {
            drop_segments(v, i + 1);
            last -= i + 1;
            i = 0;
            continue;
        }
        if (err) {
            return err == TOB_NOT_FOUND ? say_errno(r, v->segments[i].name) : err;
        }
        i++;
    }
    return TOB_OK;
}

tob_position tob_verify_oldest(const tob_verify *verify) {
    uint64_t number = verify->segment_count ? verify->segments[0].at.segment : 0;
    return (tob_position){number, number ? TOB_SEGMENT_HEADER_BYTES : 0};
}

tob_position tob_verify_end(const tob_verify *verify) {
    size_t count = verify->segment_count;
    if (count > 1 && verify->segments[count - 1].unfinished) {
        count--;
    }
    return count ? (tob_position){verify->segments[count - 1].at.segment, verify->segments[count - 1].end}
                 : (tob_position){0, 0};
}

static bool in_hole(const tob_verify *v, tob_position at) {
    for (size_t i = 0; i < v->segment_count; i++) {
        const tob_verify_file *s = &v->segments[i];
        for (size_t h = 0; s->at.segment == at.segment && h < s->hole_count; h++) {
            if (at.offset >= s->holes[h].offset && at.offset < s->holes[h].end) {
                return true;
            }
        }
        if (s->at.segment == at.segment && s->missing) {
            return true;
        }
    }
    return false;
}

static void judge_places(run *r) {
    tob_verify *v = r->verify;
    for (size_t i = 0; i < v->checkpoint_count; i++) {
        tob_verify_file *c = &v->checkpoints[i];
        tob_position end = tob_verify_end(v);
        if (tob_position_compare(c->at, end) > 0 || tob_position_compare(c->reaches, end) > 0) {
            c->place = tob_verify_place_behind;
        } else if (c->at.segment < tob_verify_oldest(v).segment) {
            const tob_verify_file *first = &v->segments[0];
            bool beside = c->at.segment + 1 == first->at.segment && first->salt_known && !first->header;
            c->place = beside && c->at.offset > first->previous_end ? tob_verify_place_between
                                                                    : tob_verify_place_before;
        } else if (!r->places_found[i] && !in_hole(v, c->at)) {
            c->place = tob_verify_place_between;
        }
    }
}

static void count_damage(void *user, const tob_verify_file *file, uint64_t offset, uint64_t bytes,
                         const char *reason) {
    (void)file, (void)offset, (void)bytes, (void)reason;
    ++*(size_t *)user;
}

void tob_verify_each_damage(const tob_verify *verify, tob_verify_damage_fn fn, void *user) {
    for (size_t i = 0; i < verify->checkpoint_count + verify->segment_count; i++) {
        bool segment = i >= verify->checkpoint_count;
        const tob_verify_file *f =
            segment ? &verify->segments[i - verify->checkpoint_count] : &verify->checkpoints[i];
        if (f->missing) {
            fn(user, f, 0, 0, "the segment is missing");
        }
        if (f->header) {
            fn(user, f, 0, TOB_SEGMENT_HEADER_BYTES, f->header);
        }
        for (size_t h = 0; h < f->hole_count; h++) {
            fn(user, f, f->holes[h].offset, f->holes[h].end - f->holes[h].offset, f->holes[h].reason);
        }
        // Recovery needs the newest one's place only.
        if (f->place && i == 0) {
            fn(user, f, 0, 0, f->place);
        }
    }
}

tob_error tob_verify_run(const tob_verify_options *options, tob_verify *ret,
                         tob_journal_problem *ret_problem) {
    tob_verify v = {.in_use = false};
    run r = {.options = options, .verify = &v, .problem = ret_problem};
    ret_problem->text[0] = 0;
    r.dir_fd = open(options->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r.dir_fd < 0) {
        tob_journal_say(ret_problem, "%s: %s", options->dir, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? TOB_NOT_FOUND : TOB_IO;
    }
    v.in_use = !options->locked && is_in_use(r.dir_fd);
    // Checkpoints first: the journal only grows behind their places.
    tob_error err = tob_verify_list_checkpoints(r.dir_fd, options->dir, &v, ret_problem);
    if (!err) {
        err = tob_verify_list_segments(r.dir_fd, options->dir, &v, ret_problem);
    }
    if (!err) {
        r.places_found = calloc(v.checkpoint_count + 1, sizeof(*r.places_found));
        err = r.places_found ? read_checkpoints(&r) : TOB_NO_MEMORY;
    }
    if (!err) {
        err = read_headers(&r);
    }
    if (!err) {
        err = read_segments(&r);
    }
    if (!err) {
        judge_places(&r);
        tob_verify_each_damage(&v, count_damage, &v.damages);
    }
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: %s", options->dir, tob_error_string(err));
    }
    free(r.places_found);
    close(r.dir_fd);
    if (err) {
        tob_verify_fini(&v);
        return err;
    }
    *ret = v;
    return TOB_OK;
}

void tob_verify_fini(tob_verify *verify) {
    for (size_t i = 0; i < verify->segment_count; i++) {
        free(verify->segments[i].holes);
    }
    for (size_t i = 0; i < verify->checkpoint_count; i++) {
        free(verify->checkpoints[i].holes);
    }
    free(verify->segments);
    free(verify->checkpoints);
    *verify = (tob_verify){.in_use = false};
}
