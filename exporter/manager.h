// tob_manager is what the tobogganing_manager_* families show: the registry's sizes, and the sums of the
// counters of all our processes. A sum never goes backwards: it grows by what a process's counter grew, and
// keeps what processes that are gone had counted.
//
// Several ingestd: processes have an id of their own at each, so all of them are added up; the sum of the retired is
// each ingestd's own. The registry's sizes are the greatest that was said within the last minute, as they share one
// registry (one with separate registries would have to be added up, but can't be told from here). Clients on their previous key
// are added up, as each ingestd knows those that it hears from; of the ends of certificates the soonest counts.
//
// Threads: any; a mutex is held for one message or one line.
#ifndef TOB_EXPORTER_MANAGER_H
#define TOB_EXPORTER_MANAGER_H

#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "rpc/process.h"
#include "util/error.h"

#define TOB_MANAGER_MAX_OWNERS    256u
#define TOB_MANAGER_GAUGE_MS      60000u
#define TOB_MANAGER_MAX_PROCESSES 16384 // gone ones too: the one that is gone longest makes room
#define TOB_MANAGER_MAX_COUNTERS  4096  // different label sets of all families
#define TOB_MANAGER_MAX_LABEL     64    // bytes
#define TOB_MANAGER_MAX_BLOCK     512   // three labels that all need escapes, their names

typedef struct tob_manager tob_manager;

typedef enum tob_gauge {
    TOB_GAUGE_CLUSTERS,
    TOB_GAUGE_CLIENTS,
    TOB_GAUGE_ON_PREVIOUS_KEY,
    TOB_GAUGES
} tob_gauge;

// Types of certificates.
typedef enum tob_certificate_type {
    TOB_CERTIFICATE_CA,
    TOB_CERTIFICATE_CLIENT,
    TOB_CERTIFICATE_HEADEND,
    TOB_CERTIFICATE_SERVER,
    TOB_CERTIFICATE_TYPES
} tob_certificate_type;

// tob_certificate_type_name: as it is labelled; static text.
const char *tob_certificate_type_name(tob_certificate_type type);

TOB_MUST_USE tob_error tob_manager_new(tob_manager **ret);
void tob_manager_free(tob_manager *manager);

// tob_manager_begin_owner gives a slot (of instances.h) to an ingestd, _forget takes it back: its gauges are not looked
// at any more, what its processes counted stays.
void tob_manager_begin_owner(tob_manager *manager, unsigned owner, uint64_t instance);
void tob_manager_forget(tob_manager *manager, unsigned owner);

// tob_manager_apply takes one message of an ingestd in. What is over a cap or not valid is left out.
//   ret_ignored   how many counters and processes were left out
// Errors: TOB_NO_MEMORY; what was taken in so far stays. TOB_INVALID for an owner over its cap.
TOB_MUST_USE tob_error tob_manager_apply(tob_manager *manager, unsigned owner,
                                         const Tobogganing__V1__Manager *message, uint64_t monotonic_ms,
                                         uint64_t *ret_ignored);

uint64_t tob_manager_gauge(tob_manager *manager, tob_gauge gauge);

// tob_manager_expiry: when the first certificate of a type will have expired, Unix seconds; 0: there is none.
uint64_t tob_manager_expiry(tob_manager *manager, tob_certificate_type type);

// One sum: its label block, without braces and "" without labels, lives as long as the manager.
typedef struct tob_manager_counter {
    const char *block;
    size_t block_len;
    uint64_t value;
} tob_manager_counter;

// tob_manager_next finds the first counter of the family at or after *at, and sets *at behind it.
// TOB_NOT_FOUND at the end. Begin with 0; counters only get added.
TOB_MUST_USE tob_error tob_manager_next(tob_manager *manager, Tobogganing__V1__CounterFamily family,
                                        size_t *at, tob_manager_counter *ret);

#endif
