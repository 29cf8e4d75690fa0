#include "exporter/instances.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "util/log.h"
#include "wire/bus_topics.h"

#define MAX_SWEEP_MS 60000u // how often expired rows are looked for, at least
#define MIN_SWEEP_MS 500u

struct tob_instances {
    tob_instances_options options;
    tob_follow *follows[TOB_MAX_INSTANCES]; // by slot; NULL: free
    tob_follow *last;                       // the one looked up last: messages come in rows
    size_t count;
    uint64_t start_ms;
    uint64_t bus_ms;
    uint64_t not_before_ms; // a resync of one that was synced before
    uint64_t keep_ms;
    uint64_t sweep_ms;
    uint64_t swept_ms;
    uint64_t complained_ms; // of instances that found no slot
    atomic_bool ready;
    atomic_bool silent;
};

static uint64_t sweep_interval(uint64_t expire_after_ms) {
    uint64_t ms = expire_after_ms / 100;
    return ms < MIN_SWEEP_MS ? MIN_SWEEP_MS : ms > MAX_SWEEP_MS ? MAX_SWEEP_MS : ms;
}

tob_error tob_instances_new(const tob_instances_options *options, tob_moment now, tob_instances **ret) {
    tob_instances *instances = calloc(1, sizeof(*instances));
    if (!instances) {
        return TOB_NO_MEMORY;
    }
    uint64_t expire_after_ms = tob_mirror_expire_after_ms(options->mirror);
    instances->options = *options;
    instances->options.buckets = options->buckets ? options->buckets : UINT64_MAX;
    instances->start_ms = now.monotonic_ms;
    instances->bus_ms = now.monotonic_ms;
    instances->keep_ms =
        expire_after_ms > TOB_INSTANCE_MIN_KEEP_MS ? expire_after_ms : TOB_INSTANCE_MIN_KEEP_MS;
    instances->sweep_ms = sweep_interval(expire_after_ms);
    *ret = instances;
    return TOB_OK;
}

void tob_instances_free(tob_instances *instances) {
    if (!instances) {
        return;
    }
    for (size_t i = 0; i < TOB_MAX_INSTANCES; i++) {
        tob_follow_free(instances->follows[i]);
    }
    free(instances);
}

bool tob_instances_ready(const tob_instances *instances) {
    return atomic_load(&instances->ready);
}

bool tob_instances_silent(const tob_instances *instances) {
    return atomic_load(&instances->silent);
}

size_t tob_instances_count(const tob_instances *instances) {
    return instances->count;
}

static void forget(tob_instances *instances, unsigned slot, tob_moment now) {
    tob_follow *follow = instances->follows[slot];
    uint64_t rows = tob_mirror_drop_owner(instances->options.mirror, slot);
    if (instances->options.manager) {
        tob_manager_forget(instances->options.manager, slot);
    }
    tob_info("instance_forgotten", TOB_UINT("instance", tob_follow_instance(follow)),
             TOB_UINT("unheard_ms", now.monotonic_ms - tob_follow_heard_ms(follow)), TOB_UINT("rows", rows));
    tob_follow_free(follow);
    instances->follows[slot] = NULL;
    instances->last = NULL;
    instances->count--;
}

// A slot for one more: a free one, or that of an instance without rows that was not heard of for a while. Ingestd that
// loses its disk again and again must not use up all of them.
static tob_error find_slot(tob_instances *instances, tob_moment now, unsigned *ret) {
    unsigned oldest = TOB_MAX_INSTANCES;
    uint64_t oldest_ms = now.monotonic_ms;
    for (unsigned slot = 0; slot < TOB_MAX_INSTANCES; slot++) {
        const tob_follow *follow = instances->follows[slot];
        if (!follow) {
            *ret = slot;
            return TOB_OK;
        }
        uint64_t heard_ms = tob_follow_heard_ms(follow);
        if (now.monotonic_ms - heard_ms > TOB_INSTANCE_MIN_KEEP_MS && heard_ms < oldest_ms &&
            tob_mirror_owned(instances->options.mirror, slot) == 0) {
            oldest = slot;
            oldest_ms = heard_ms;
        }
    }
    if (oldest == TOB_MAX_INSTANCES) {
        return TOB_TOO_LARGE;
    }
    forget(instances, oldest, now);
    *ret = oldest;
    return TOB_OK;
}

static tob_error add(tob_instances *instances, uint64_t instance, uint64_t epoch, tob_moment now,
                     tob_follow **ret) {
    unsigned slot = 0;
    tob_error err = find_slot(instances, now, &slot);
    if (err) {
        return err;
    }
    tob_follow_options options = {.mirror = instances->options.mirror,
                                  .manager = instances->options.manager,
                                  .owner = slot,
                                  .instance = instance,
                                  .buckets = instances->options.buckets};
    err = tob_follow_new(&options, epoch, now, ret);
    if (err) {
        return err;
    }
    tob_mirror_begin_owner(options.mirror, slot, instance);
    if (options.manager) {
        tob_manager_begin_owner(options.manager, slot, instance);
    }
    instances->follows[slot] = *ret;
    instances->count++;
    return TOB_OK;
}

static tob_follow *find(tob_instances *instances, uint64_t instance) {
    if (instances->last && tob_follow_instance(instances->last) == instance) {
        return instances->last;
    }
    for (size_t i = 0; i < TOB_MAX_INSTANCES; i++) {
        tob_follow *follow = instances->follows[i];
        if (follow && tob_follow_instance(follow) == instance) {
            instances->last = follow;
            return follow;
        }
    }
    return NULL;
}

// NULL when there is no slot or no memory; that is logged.
static tob_follow *find_or_add(tob_instances *instances, uint64_t instance, uint64_t epoch, tob_moment now) {
    tob_follow *follow = find(instances, instance);
    if (follow) {
        return follow;
    }
    tob_error err = add(instances, instance, epoch, now, &follow);
    if (!err) {
        return follow;
    }
    if (!instances->complained_ms ||
        now.monotonic_ms - instances->complained_ms >= TOB_INSTANCES_COMPLAIN_MS) {
        tob_err("instance_refused", TOB_UINT("instance", instance), TOB_ERR(err));
        instances->complained_ms = now.monotonic_ms;
    }
    return NULL;
}

void tob_instances_bus(tob_instances *instances, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    bool rows = message->topic >= 1 && message->topic <= TOB_BUS_BUCKETS;
    if (!rows && !(message->topic == TOB_BUS_TOPIC_HEARTBEAT && message->heartbeat)) {
        return; // a topic of a later version
    }
    tob_follow *follow = find_or_add(instances, message->instance, message->epoch, now);
    instances->bus_ms = now.monotonic_ms;
    atomic_store(&instances->silent, false);
    if (follow) {
        tob_follow_bus(follow, message, now);
    }
}

void tob_instances_hello(tob_instances *instances, uint64_t instance, uint64_t epoch, tob_moment now) {
    tob_follow *follow = find_or_add(instances, instance, epoch, now);
    if (follow) {
        tob_follow_hello(follow, epoch, now);
    }
}

// First snapshots go side by side: nothing is shown before. Afterwards, work that takes time from the bus is bounded.
static bool may_begin(const tob_instances *instances, const tob_follow *follow, tob_moment now) {
    if (!tob_follow_synced(follow)) {
        return true;
    }
    if (now.monotonic_ms < instances->not_before_ms) {
        return false;
    }
    for (size_t i = 0; i < TOB_MAX_INSTANCES; i++) {
        const tob_follow *other = instances->follows[i];
        if (other && tob_follow_synced(other) && tob_follow_working(other, now)) {
            return false;
        }
    }
    return true;
}

bool tob_instances_request(tob_instances *instances, uint64_t instance, tob_moment now,
                           tob_page_request *ret) {
    tob_follow *follow = find(instances, instance);
    return follow && tob_follow_request(follow, may_begin(instances, follow, now), now, ret);
}

// After a page: when it was the last one, the others wait too.
static void check_pause(tob_instances *instances, const tob_follow *follow, tob_moment now) {
    uint64_t not_before_ms = now.monotonic_ms + 2 * tob_follow_took_ms(follow);
    if (!tob_follow_busy(follow) && not_before_ms > instances->not_before_ms) {
        instances->not_before_ms = not_before_ms;
    }
}

void tob_instances_snapshot(tob_instances *instances, uint64_t instance,
                            const Tobogganing__V1__SnapshotResponse *page, size_t bytes, tob_moment now) {
    tob_follow *follow = find(instances, instance);
    if (follow) {
        tob_follow_snapshot(follow, page, bytes, now);
        check_pause(instances, follow, now);
    }
}

void tob_instances_replay(tob_instances *instances, uint64_t instance,
                          const Tobogganing__V1__ReplayResponse *page, size_t bytes, tob_moment now) {
    tob_follow *follow = find(instances, instance);
    if (follow) {
        tob_follow_replay(follow, page, bytes, now);
        check_pause(instances, follow, now);
    }
}

void tob_instances_page_failed(tob_instances *instances, uint64_t instance, tob_error error,
                               const char *message, uint32_t retry_after_ms, tob_moment now) {
    tob_follow *follow = find(instances, instance);
    if (follow) {
        tob_follow_page_failed(follow, error, message, retry_after_ms, now);
    }
}

void tob_instances_tick(tob_instances *instances, tob_moment now) {
    if (now.monotonic_ms - instances->bus_ms > TOB_BUS_SILENT_MS) {
        atomic_store(&instances->silent, true);
    }
    for (unsigned slot = 0; slot < TOB_MAX_INSTANCES; slot++) {
        tob_follow *follow = instances->follows[slot];
        if (follow && now.monotonic_ms - tob_follow_heard_ms(follow) > instances->keep_ms) {
            forget(instances, slot, now);
        } else if (follow) {
            tob_follow_tick(follow, now);
        }
    }
    if (now.monotonic_ms - instances->swept_ms >= instances->sweep_ms) {
        instances->swept_ms = now.monotonic_ms;
        tob_mirror_expire(instances->options.mirror, now.unix_ms);
    }
}

void tob_instances_check_ready(tob_instances *instances, const tob_behind *addresses, size_t count,
                               size_t expected, tob_moment now) {
    if (tob_instances_ready(instances)) {
        return;
    }
    bool all = count > 0 && count >= expected;
    for (size_t i = 0; i < count && all; i++) {
        const tob_follow *follow = addresses[i].known ? find(instances, addresses[i].instance) : NULL;
        all = addresses[i].needless || (follow && tob_follow_synced(follow));
    }
    bool any = false;
    for (size_t i = 0; i < TOB_MAX_INSTANCES && !any; i++) {
        any = instances->follows[i] && tob_follow_synced(instances->follows[i]);
    }
    if (all || (any && now.monotonic_ms - instances->start_ms >= instances->options.ready_timeout_ms)) {
        atomic_store(&instances->ready, true);
    }
}
