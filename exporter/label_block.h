// A source's labels as every line of it has them: client_id="…",name="…",… with values escaped (exposition 0.0.4), without
// braces or NUL.
//
// Threads: any. Errors: none.
#ifndef TOB_EXPORTER_LABEL_BLOCK_H
#define TOB_EXPORTER_LABEL_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "exporter/mirror.h"

// tob_mirror_row_valid: are id, labels, values and owner within their ranges?
bool tob_mirror_row_valid(tob_source_kind kind, const tob_mirror_row *row);

// tob_label_block_render writes the block of a valid row, of at most TOB_MIRROR_MAX_BLOCK_BYTES, and returns its bytes.
size_t tob_label_block_render(tob_source_kind kind, const tob_mirror_row *row, char *to);

// tob_label_block_id_at: where a block holds the id, which needs no escapes.
size_t tob_label_block_id_at(tob_source_kind kind);

// tob_escape_label writes a label value with \, " and newline escaped (exposition 0.0.4): at most 2 * len
// bytes.
char *tob_escape_label(char *to, const char *value, size_t len);

#endif
