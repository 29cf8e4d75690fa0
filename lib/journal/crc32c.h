// CRC-32C (Castagnoli; RFC 3720 appendix B.4), with the SSE 4.2 instruction where the CPU has it.
// Threads: any. Never fails.
#ifndef TOB_JOURNAL_CRC32C_H
#define TOB_JOURNAL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// tob_crc32c continues `crc` (0 to begin) over n bytes.
uint32_t tob_crc32c(uint32_t crc, const void *bytes, size_t n);

// tob_crc32c_portable is the same without special instructions: what other CPUs get.
uint32_t tob_crc32c_portable(uint32_t crc, const void *bytes, size_t n);

#endif
