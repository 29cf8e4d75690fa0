// tob_body is one scrape's body: the exposition, as text or as one gzip file (RFC 1952), in pieces.
//
// Threads: one at a time.
#ifndef TOB_EXPORTER_BODY_H
#define TOB_EXPORTER_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "util/error.h"

#define TOB_BODY_PIECE_BYTES (64u * 1024)
#define TOB_BODY_GZIP_LEVEL  1 // more costs several times the CPU for a few percent

typedef struct tob_body tob_body;

// tob_body_new
//   parts   a set of TOB_PART_… of exposition.h
//   ret     owned by the caller; free with tob_body_free
// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_body_new(tob_mirror *mirror, tob_manager *manager, unsigned parts, bool gzip,
                                    tob_body **ret);
void tob_body_free(tob_body *body);

// tob_body_read makes the next piece, of at most one TOB_BODY_PIECE_BYTES of text where there is output.
//   ret_bytes   borrowed until the next call
//   ret_n       0 at the end only
// Errors: TOB_INTERNAL from zlib.
TOB_MUST_USE tob_error tob_body_read(tob_body *body, const void **ret_bytes, size_t *ret_n);

// tob_accepts_gzip reads an Accept-Encoding header (RFC 9110 §12.5.3).
bool tob_accepts_gzip(const char *header, size_t len);

#endif
