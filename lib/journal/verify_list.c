#include "journal/verify_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/segment.h"

static tob_error say_errno(const char *dir, tob_journal_problem *problem) {
    tob_journal_say(problem, "%s: %s", dir, strerror(errno));
    return TOB_IO;
}

static int compare_segments(const void *a, const void *b) {
    const tob_verify_file *x = a, *y = b;
    return tob_position_compare(x->at, y->at);
}

static int compare_checkpoints(const void *a, const void *b) {
    return compare_segments(b, a);
}

tob_error tob_verify_list_checkpoints(int dir_fd, const char *dir, tob_verify *verify,
                                      tob_journal_problem *ret_problem) {
    tob_verify *v = verify;
    tob_error err = TOB_OK;
    int own = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); // closedir closes it
    DIR *listing = own < 0 ? NULL : fdopendir(own);
    if (!listing) {
        err = say_errno(dir, ret_problem);
        if (own >= 0) {
            close(own);
        }
        return err;
    }
    for (struct dirent *entry = readdir(listing); !err && entry; entry = readdir(listing)) {
        tob_position at;
        if (!tob_checkpoint_place(entry->d_name, &at.segment, &at.offset)) {
            continue;
        }
        tob_verify_file *more = realloc(v->checkpoints, (v->checkpoint_count + 1) * sizeof(*more));
        if (!more) {
            err = TOB_NO_MEMORY;
            break;
        }
        v->checkpoints = more;
        more[v->checkpoint_count] = (tob_verify_file){.at = at};
        tob_checkpoint_name(at.segment, at.offset, more[v->checkpoint_count++].name);
    }
    closedir(listing);
    if (v->checkpoint_count > 1) {
        qsort(v->checkpoints, v->checkpoint_count, sizeof(*v->checkpoints), compare_checkpoints);
    }
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
