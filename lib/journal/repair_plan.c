#include "journal/repair_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/segment.h"
#include "util/random.h"

#define NOTHING_LEFT  UINT64_MAX
#define UNKNOWN_BYTES (UINT64_C(1) << 40) // counts for a file that lost we don't know how much

static uint64_t add(uint64_t a, uint64_t b) {
    return a > NOTHING_LEFT - b ? NOTHING_LEFT : a + b;
}

// ---- which checkpoint

// How much of the journal from `from` on is lost, bytes.
static uint64_t loss_from(const tob_verify *found, tob_position from) {
    uint64_t lost = 0;
    for (size_t i = 0; i < found->segment_count; i++) {
        const tob_verify_file *s = &found->segments[i];
        if (s->at.segment < from.segment) {
            continue;
        }
        lost = add(lost, s->missing ? UNKNOWN_BYTES : 0);
        for (size_t h = 0; h < s->hole_count; h++) {
            uint64_t begin = s->at.segment == from.segment ? from.offset : 0;
            begin = s->holes[h].offset > begin ? s->holes[h].offset : begin;
            lost = add(lost, s->holes[h].end > begin ? s->holes[h].end - begin : 0);
        }
    }
    uint64_t oldest = tob_verify_oldest(found).segment;
    lost = add(lost, oldest > from.segment ? UNKNOWN_BYTES : 0);
    // What a newer checkpoint has seen, and the journal has no more.
    const tob_verify_file *newest = found->checkpoint_count ? &found->checkpoints[0] : NULL;
    bool cut_off = newest && tob_position_compare(newest->at, tob_verify_end(found)) > 0 &&
                   tob_position_compare(from, newest->at) < 0;
    return add(lost, cut_off ? UNKNOWN_BYTES : 0);
}

static bool is_damaged(const tob_verify_file *checkpoint) {
    return checkpoint->header || checkpoint->hole_count || !checkpoint->head;
}

static uint64_t loss_with(const tob_verify *found, const tob_verify_file *c) {
    if (c->place == tob_verify_place_between || !c->records) {
        return NOTHING_LEFT;
    }
    uint64_t lost = loss_from(found, c->at);
    for (size_t h = 0; h < c->hole_count; h++) {
        lost = add(lost, c->holes[h].end - c->holes[h].offset + 1);
    }
    return add(lost, c->ended ? 0 : UNKNOWN_BYTES);
}

// The checkpoint with which the least is lost, the newest of equals; NULL: the journal without one, or nothing at all.
static const tob_verify_file *choose(const tob_verify *found) {
    const tob_verify_file *best = NULL;
    uint64_t least = NOTHING_LEFT;
    for (size_t i = 0; i < found->checkpoint_count; i++) {
        uint64_t lost = loss_with(found, &found->checkpoints[i]);
        if (lost < least) {
            best = &found->checkpoints[i];
            least = lost;
        }
    }
    bool from_begin = tob_verify_oldest(found).segment == 1;
    return from_begin && loss_from(found, (tob_position){1, 0}) < least ? NULL : best;
}

// ---- steps

static tob_error add_step(tob_repair_plan *plan, const tob_repair_step *step) {
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity ? plan->capacity * 2 : 8;
        tob_repair_step *steps = realloc(plan->steps, capacity * sizeof(*steps));
        if (!steps) {
            return TOB_NO_MEMORY;
        }
        plan->steps = steps;
        plan->capacity = capacity;
    }
    plan->steps[plan->count++] = *step;
    return TOB_OK;
}

static tob_error add_checkpoint(tob_repair_plan *plan, tob_repair_action action, const tob_verify_file *file,
                                tob_position at) {
    tob_repair_step step = {.action = action, .at = at, .file = file};
    char name[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(at.segment, at.offset, name);
    snprintf(step.name, sizeof(step.name), "%s", name);
    return add_step(plan, &step);
}

// Those that are set aside go first: writing one lets only the newest two be.
static tob_error plan_checkpoints(const tob_verify *found, const tob_verify_file *chosen,
                                  tob_repair_plan *plan) {
    tob_error err = TOB_OK;
    for (size_t i = 0; i < found->checkpoint_count && !err; i++) {
        const tob_verify_file *c = &found->checkpoints[i];
        bool newer = !chosen || tob_position_compare(c->at, chosen->at) > 0;
        if (c != chosen && (newer || is_damaged(c) || c->place == tob_verify_place_between)) {
            err = add_checkpoint(plan, TOB_REPAIR_SET_ASIDE, c, c->at);
        }
    }
    if (!err && chosen && is_damaged(chosen)) {
        err = add_checkpoint(plan, TOB_REPAIR_REWRITE_CHECKPOINT, chosen, chosen->at);
    }
    if (!err && !chosen && tob_verify_oldest(found).segment > 1) {
        err = add_checkpoint(plan, TOB_REPAIR_MAKE_CHECKPOINT, NULL, tob_verify_oldest(found));
    }
    return err;
}

// The greatest place that somebody needs in a segment; 0: none.
static uint64_t needed_in(const tob_repair_plan *plan, uint64_t segment) {
    uint64_t needed = 0;
    for (size_t i = 0; i < plan->place_count; i++) {
        const tob_position *p = &plan->places[i];
        if (p->segment == segment && p->offset > needed && p->offset % TOB_RECORD_ALIGN == 0) {
            needed = p->offset;
        }
    }
    return needed;
}

static const tob_verify_file *segment_of(const tob_verify *found, uint64_t number) {
    uint64_t oldest = tob_verify_oldest(found).segment;
    return number >= oldest && number - oldest < found->segment_count ? &found->segments[number - oldest]
                                                                      : NULL;
}

static bool header_tells(const tob_verify_file *s) {
    return s && !s->missing && !s->unfinished && !s->header;
}

// Where a segment that the next one says nothing of ends: not before what is there and what is needed, and with room for
// a record behind every place and behind its own end.
static uint64_t free_end(const tob_repair_plan *plan, const tob_verify_file *file, uint64_t segment) {
    uint64_t own = file ? file->end : TOB_SEGMENT_HEADER_BYTES, end = needed_in(plan, segment);
    bool hole_last = file && file->hole_count && file->holes[file->hole_count - 1].end == own;
    end = end < own ? own : end;
    if (!hole_last && end > own && end < own + TOB_RECORD_HEADER_BYTES) {
        end = own + TOB_RECORD_HEADER_BYTES;
    }
    for (size_t i = 0; i < plan->place_count; i++) {
        const tob_position *p = &plan->places[i];
        bool aligned = p->segment == segment && p->offset % TOB_RECORD_ALIGN == 0;
        if (aligned && end > p->offset && end < p->offset + TOB_RECORD_HEADER_BYTES) {
            end = p->offset + TOB_RECORD_HEADER_BYTES;
        }
    }
    return end < TOB_SEGMENT_HEADER_BYTES ? TOB_SEGMENT_HEADER_BYTES : end;
}

// Fills in the step for one segment. False: it stays as it is.
//   previous_end   where the one before it will end
static bool plan_segment(const tob_verify *found, const tob_repair_plan *plan, tob_position first,
                         uint64_t last, uint64_t previous_end, tob_repair_step *step) {
    uint64_t number = step->at.segment;
    const tob_verify_file *s = segment_of(found, number), *next = segment_of(found, number + 1);
    const tob_verify_file *file = s && !s->missing ? s : NULL;
    uint64_t own = file ? file->end : TOB_SEGMENT_HEADER_BYTES, needed = needed_in(plan, number);
    bool next_tells = number < last && next && next->previous_end;
    step->end = next_tells ? next->previous_end : free_end(plan, file, number);
    step->file = file;
    step->salt = file && file->salt_known ? file->salt : tob_random_u64();
    step->previous_end =
        number == first.segment ? (number == 1 ? 0 : TOB_SEGMENT_HEADER_BYTES) : previous_end;
    if (file && file->previous_end) {
        step->previous_end = file->previous_end;
    }
    step->action = file ? TOB_REPAIR_REWRITE_SEGMENT : TOB_REPAIR_MAKE_SEGMENT;
    if (!file) {
        return true;
    }
    bool idle = file->unfinished && number == last && !needed;
    return !idle && (!header_tells(file) || file->hole_count || own != step->end);
}

static tob_error plan_segments(const tob_verify *found, tob_repair_plan *plan) {
    tob_position first = tob_verify_oldest(found);
    uint64_t last = found->segment_count ? found->segments[found->segment_count - 1].at.segment : 0;
    for (size_t i = 0; i < plan->place_count; i++) {
        uint64_t number = plan->places[i].segment;
        bool is_checkpoint = i == 0; // readers may be far behind: their segments may be gone
        if (is_checkpoint && number && (!first.segment || number < first.segment)) {
            first.segment = number;
        }
        last = number > last ? number : last;
    }
    if (!first.segment) {
        return TOB_OK;
    }
    if (last - first.segment >= TOB_VERIFY_MAX_SEGMENTS) {
        return TOB_TOO_LARGE;
    }
    tob_error err = TOB_OK;
    uint64_t previous_end = 0;
    for (uint64_t number = first.segment; !err && number <= last; number++) {
        tob_repair_step step = {.at = {.segment = number}};
        char name[TOB_SEGMENT_NAME_BYTES];
        tob_segment_name(number, name);
        snprintf(step.name, sizeof(step.name), "%s", name);
        if (plan_segment(found, plan, first, last, previous_end, &step)) {
            err = add_step(plan, &step);
        }
        previous_end = step.end;
    }
    return err;
}

tob_error tob_repair_plan_make(const tob_verify *found, const tob_position *places, size_t place_count,
                               tob_repair_plan *ret) {
    tob_repair_plan plan = {.steps = NULL};
    if (found->damages == 0) {
        *ret = plan;
        return TOB_OK;
    }
    plan.places = calloc(place_count + 2, sizeof(*plan.places));
    if (!plan.places) {
        return TOB_NO_MEMORY;
    }
    const tob_verify_file *chosen = choose(found);
    plan.places[0] = chosen ? chosen->at : (tob_position){0, 0};
    plan.places[1] = chosen ? chosen->reaches : (tob_position){0, 0};
    plan.place_count = 2 + place_count;
    if (place_count) {
        memcpy(plan.places + 2, places, place_count * sizeof(*places));
    }
    tob_error err = plan_checkpoints(found, chosen, &plan);
    if (!err) {
        err = plan_segments(found, &plan);
    }
    if (err) {
        tob_repair_plan_fini(&plan);
        return err;
    }
    *ret = plan;
    return TOB_OK;
}

void tob_repair_plan_fini(tob_repair_plan *plan) {
    free(plan->steps);
    free(plan->places);
    *plan = (tob_repair_plan){.steps = NULL};
}
