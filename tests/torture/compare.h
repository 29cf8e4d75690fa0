// compare tells whether a store is what the plain state says.
//
// Threads: one at a time. Errors: none.
#ifndef TOB_TESTS_TORTURE_COMPARE_H
#define TOB_TESTS_TORTURE_COMPARE_H

#include <stdbool.h>

#include "ingestd/store.h"
#include "plain.h"

#define COMPARE_TEXT_BYTES 512

// compare_store looks at rows, totals and consumers. False: ret_text says the first difference.
bool compare_store(tob_store *store, const plain_state *plain, char ret_text[COMPARE_TEXT_BYTES]);

#endif
