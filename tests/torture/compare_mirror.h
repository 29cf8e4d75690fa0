// compare_mirror tells whether an exporter's mirror is what the plain state says.
//
// Threads: one at a time. Errors: none.
#ifndef TOB_TESTS_TORTURE_COMPARE_MIRROR_H
#define TOB_TESTS_TORTURE_COMPARE_MIRROR_H

#include <stdbool.h>

#include "compare.h"
#include "exporter/mirror.h"
#include "exporter/moment.h"
#include "plain.h"

// compare_mirror, after a tob_mirror_expire of the same moment, looks at rows, labels, values and at what is hidden. Clients
// are registered as "name", "native"; headends as "registered". False: ret_text says the first difference.
bool compare_mirror(tob_mirror *mirror, const plain_state *plain, tob_moment now,
                    char ret_text[COMPARE_TEXT_BYTES]);

#endif
