// tob_secrets is a set of tokens that open a door: from the environment (comma-separated) or from a file, so that a token can
// be rotated without a gap. Of a file's tokens only SHA-256 hashes are kept.
//
// A line of a file: "TOKEN", or "TOKEN NAME" (1-64 bytes of [A-Za-z0-9._:@-], for the audit log), or nothing; then, if
// wanted, "# comment". Anything else is refused, with the whole file.
//
// Threads: tob_secrets_match and _reload from any thread; the rest from one.
#ifndef TOB_UTIL_SECRET_H
#define TOB_UTIL_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_SECRETS_MAX           64
#define TOB_SECRET_MAX_BYTES      8192
#define TOB_SECRET_FILE_MAX_BYTES (1u << 20)
#define TOB_SHA256_BYTES          32

typedef struct tob_secrets tob_secrets;

// tob_secrets_new
//   list   comma-separated tokens, or NULL or "";  path  a file, or NULL or "". Both together are added up.
//   ret    owned by the caller; free with tob_secrets_free. A set without tokens is made too: see _count.
// Errors: TOB_NOT_FOUND, TOB_PERMISSION_DENIED, TOB_IO for the file; TOB_MALFORMED for a line; TOB_TOO_LARGE over a cap above;
//         TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_secrets_new(const char *list, const char *path, tob_secrets **ret);
void tob_secrets_free(tob_secrets *secrets);

size_t tob_secrets_count(tob_secrets *secrets);

// tob_secrets_reload reads the file again; on an error, or when it would leave no token, the tokens stay.
// Errors: as tob_secrets_new; TOB_PRECONDITION when no token would be left.
TOB_MUST_USE tob_error tob_secrets_reload(tob_secrets *secrets);

// tob_secrets_match: is the token one of the set? Takes the same time wherever they differ.
bool tob_secrets_match(tob_secrets *secrets, const char *token, size_t len);

// tob_secrets_match_named: the same, and who it is: the name that follows the token in its line of the file, else "token " and
// the first 8 hexadecimal digits of its SHA-256. Untouched when it is none of the set.
#define TOB_SECRET_NAME_BYTES 65
bool tob_secrets_match_named(tob_secrets *secrets, const char *token, size_t len,
                             char ret_name[TOB_SECRET_NAME_BYTES]);

// tob_bearer finds the token in "Bearer TOKEN" (RFC 6750 §2.1; the scheme in any case). Borrowed from `header`.
// TOB_UNAUTHENTICATED when there is none.
TOB_MUST_USE tob_error tob_bearer(const char *header, size_t len, const char **ret_token, size_t *ret_len);

// tob_sha256 hashes; a few hundred nanoseconds.
void tob_sha256(const void *bytes, size_t n, uint8_t ret[TOB_SHA256_BYTES]);

// tob_sha256_context hashes many without allocating for each: make one for a batch. One thread at a time.
typedef struct evp_md_ctx_st tob_sha256_context; // OpenSSL's EVP_MD_CTX

// Never NULL: without memory for it the process aborts, as in tob_sha256.
tob_sha256_context *tob_sha256_context_new(void);
void tob_sha256_context_free(tob_sha256_context *context);
void tob_sha256_with(tob_sha256_context *context, const void *bytes, size_t n, uint8_t ret[TOB_SHA256_BYTES]);

// tob_equal_constant_time compares n bytes without a data-dependent branch.
bool tob_equal_constant_time(const void *a, const void *b, size_t n);

// A client's API key: "tobk_", 32 random bytes in base64url (43 characters), NUL.
#define TOB_API_KEY_BYTES 49

// tob_api_key_make makes one; the caller wipes it when it is not needed any more.
void tob_api_key_make(char ret[TOB_API_KEY_BYTES]);

// tob_secret_read_first reads the first token of a list or file, for a caller that presents it.
//   ret   a string; owned by the caller, free with free
// Errors: as tob_secrets_new; TOB_NOT_FOUND when there is no token.
TOB_MUST_USE tob_error tob_secret_read_first(const char *list, const char *path, char **ret);

// tob_secret_file_exposed: may others than the file's owner read or change it? False for NULL, "" and what can't be looked
// at. To be warned of, not refused: Kubernetes mounts secrets like this.
bool tob_secret_file_exposed(const char *path);

#endif
