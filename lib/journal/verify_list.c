#include "journal/verify_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal/files.h"
#include "journal/segment.h"

static tob_error say_errno(const char *dir, tob_journal_problem *problem) {
    tob_journal_say(problem, "%s: %s", dir, strerror(errno));
    return TOB_IO;
}

tob_error tob_verify_list_checkpoints(int dir_fd, const char *dir, tob_verify *verify,
                                      tob_journal_problem *ret_problem) {
    tob_verify *v = verify;
    tob_position *places = NULL;
    size_t count = 0;
    tob_error err = tob_checkpoint_list(dir_fd, &places, &count);
    if (err) {
        return err == TOB_IO ? say_errno(dir, ret_problem) : err;
    }
    v->checkpoints = calloc(count + 1, sizeof(*v->checkpoints));
    if (!v->checkpoints) {
        err = TOB_NO_MEMORY;
        goto out;
    }
    v->checkpoint_count = count;
    for (size_t i = 0; i < count; i++) {
        v->checkpoints[i].at = places[i];
        tob_checkpoint_name(places[i].segment, places[i].offset, v->checkpoints[i].name);
    }
out:
    free(places);
    return err;
}

tob_error tob_verify_list_segments(int dir_fd, const char *dir, tob_verify *verify,
                                   tob_journal_problem *ret_problem) {
    tob_verify *v = verify;
    uint64_t *numbers = NULL;
    size_t count = 0;
    tob_error err = tob_journal_dir_list(dir_fd, &numbers, &count);
    if (err) {
        return err == TOB_IO ? say_errno(dir, ret_problem) : err;
    }
    uint64_t span = count ? numbers[count - 1] - numbers[0] + 1 : 0;
    if (span > TOB_VERIFY_MAX_SEGMENTS || (count && span == 0)) {
        tob_journal_say(ret_problem, "%s: segments %" PRIu64 " to %" PRIu64 " are not one journal", dir,
                        numbers[0], numbers[count - 1]);
        err = TOB_TOO_LARGE;
        goto out;
    }
    v->segments = calloc(span + 1, sizeof(*v->segments));
    if (!v->segments) {
        err = TOB_NO_MEMORY;
        goto out;
    }
    v->segment_count = span;
    for (size_t i = 0, found = 0; i < span; i++) {
        tob_verify_file *s = &v->segments[i];
        s->at.segment = numbers[0] + i;
        s->missing = s->at.segment != numbers[found];
        found += !s->missing;
        tob_segment_name(s->at.segment, s->name);
    }
out:
    free(numbers);
    return err;
}
