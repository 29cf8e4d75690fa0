// What the manager's counters are found by: a byte of the family, then the label block as it is shown, without braces.
//
// Threads: any. Errors: none.
#ifndef TOB_EXPORTER_COUNTER_KEYS_H
#define TOB_EXPORTER_COUNTER_KEYS_H

#include <stddef.h>

#include "tobogganing/v1/process.pb-c.h"

#include "exporter/manager.h"

#define TOB_COUNTER_KEY_BYTES (1 + TOB_MANAGER_MAX_BLOCK)

// tob_counter_key writes the key, without a NUL, and returns its length; 0 when the labels are not the family's.
size_t tob_counter_key(Tobogganing__V1__CounterFamily family, size_t label_count, const char *const *labels,
                       char to[TOB_COUNTER_KEY_BYTES]);

// tob_counter_preset_key: likewise, of counter number i of those that exist from the start, at 0; returns 0 after the last.
size_t tob_counter_preset_key(size_t i, char to[TOB_COUNTER_KEY_BYTES]);

#endif
