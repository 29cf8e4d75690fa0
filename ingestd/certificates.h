// The fleet's certificates between the registry, where all ingestd that share it have them, and those in this process who need
// to know: the authority at the start, and how soon certificates end.
//
// Threads: whoever uses the registry: the daemon before its threads start, then the registry's worker.
#ifndef TOB_INGESTD_CERTIFICATES_H
#define TOB_INGESTD_CERTIFICATES_H

#include <stdint.h>

#include "ingestd/ca.h"
#include "ingestd/registry.h"
#include "util/error.h"

// tob_certificates_open gives the authority: the one in the two files, or, without files (both NULL or ""), the registry's,
// which is made if there is none. Of several processes that start together on one registry one makes it.
//   ret           owned by the caller; free with tob_ca_free
//   ret_problem   filled on an error of the authority; "" on one of the registry, whose tob_registry_last_problem tells more
// Errors: those of ca.h and of the registry.
TOB_MUST_USE tob_error tob_certificates_open(tob_registry *registry, const char *certificate_path,
                                             const char *key_path, uint64_t now_unix_s, tob_ca **ret,
                                             tob_ca_problem *ret_problem);

// tob_certificates_changed reads how soon certificates end, into the tob_expiries that `expiries` is:
// tob_registry_sync_listener's certificates_changed. On an error the old times stay.
TOB_MUST_USE tob_error tob_certificates_changed(void *expiries, tob_registry *registry);

#endif
