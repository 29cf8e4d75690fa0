#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/state.h"

tob_position tob_journal_oldest(const tob_journal *journal) {
    uint64_t segment = journal->end.segment;
    for (size_t i = journal->closed_count; i > 0 && journal->closed[i - 1].segment == segment - 1; i--) {
        segment--;
    }
    return (tob_position){segment, TOB_SEGMENT_HEADER_BYTES};
}

// A clock that was set back makes a segment look new, never old.
static bool is_old(const tob_journal_closed *c, uint64_t retain_ms, uint64_t now_unix_ms) {
    return now_unix_ms > c->written_unix_ms && now_unix_ms - c->written_unix_ms > retain_ms;
}

tob_error tob_journal_retain(tob_journal *journal, tob_position needed, uint64_t retain_ms,
                             uint64_t retain_bytes, uint64_t now_unix_ms, uint64_t *ret_removed,
                             tob_journal_problem *ret_problem) {
    tob_journal *j = journal;
    tob_error err = TOB_OK;
    size_t removed = 0;
    uint64_t removed_bytes = 0;
    for (; removed < j->closed_count; removed++) {
        const tob_journal_closed *c = &j->closed[removed];
        if (c->segment >= needed.segment ||
            (removed > 0 && removed_bytes + c->bytes > TOB_JOURNAL_MAX_REMOVED_BYTES) ||
            (!is_old(c, retain_ms, now_unix_ms) && tob_journal_bytes(j) <= retain_bytes)) {
            break;
        }
        char name[TOB_SEGMENT_NAME_BYTES];
        tob_segment_name(c->segment, name);
        if (unlinkat(j->dir_fd, name, 0) && errno != ENOENT) {
            tob_journal_say_errno(j, c->segment, 0, "removing the segment failed", ret_problem);
            err = TOB_IO;
            break;
        }
        j->closed_bytes -= c->bytes;
        removed_bytes += c->bytes;
    }
    if (removed == 0) {
        *ret_removed = 0;
        return err;
    }
    j->closed_count -= removed;
    memmove(j->closed, j->closed + removed, j->closed_count * sizeof(*j->closed));
    if (!err && tob_journal_sync_dir(j)) {
        tob_journal_say(ret_problem, "%s: sync failed: %s", j->dir, strerror(errno));
        err = TOB_IO;
    }
    *ret_removed = removed;
    return err;
}
