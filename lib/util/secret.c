#include "util/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct tob_secrets {
    pthread_rwlock_t lock; // guards hashes, count
    uint8_t hashes[TOB_SECRETS_MAX][TOB_SHA256_BYTES];
    size_t count;
    char *list;
    char *path;
};

static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_md;

static void sha256_fetch(void) {
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!sha256_md) {
        abort(); // OpenSSL without SHA-256
    }
}

tob_sha256_context *tob_sha256_context_new(void) {
    pthread_once(&sha256_once, sha256_fetch);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context) {
        abort();
    }
    return context;
}

void tob_sha256_context_free(tob_sha256_context *context) {
    EVP_MD_CTX_free(context);
}

void tob_sha256_with(tob_sha256_context *context, const void *bytes, size_t n,
                     uint8_t ret[TOB_SHA256_BYTES]) {
    if (!EVP_DigestInit_ex2(context, sha256_md, NULL) || !EVP_DigestUpdate(context, bytes, n) ||
        !EVP_DigestFinal_ex(context, ret, NULL)) {
        abort();
    }
}

void tob_sha256(const void *bytes, size_t n, uint8_t ret[TOB_SHA256_BYTES]) {
    tob_sha256_context *context = tob_sha256_context_new();
    tob_sha256_with(context, bytes, n, ret);
    tob_sha256_context_free(context);
}

bool tob_equal_constant_time(const void *a, const void *b, size_t n) {
    return CRYPTO_memcmp(a, b, n) == 0;
}

// tob_secret_fn takes one token; an error ends the walk.
typedef tob_error (*secret_fn)(void *user, const char *token, size_t len);

static tob_error each_in_text(const char *text, const char *separators, secret_fn fn, void *user) {
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, separators);
        const char *from = at, *to = at + len;
        while (from < to && (*from == ' ' || *from == '\t' || *from == '\r')) {
            from++;
        }
        while (to > from && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r')) {
            to--;
        }
        if (from < to && *from != '#') {
            tob_error err = fn(user, from, (size_t)(to - from));
            if (err) {
                return err;
            }
        }
        at += len + (at[len] != 0);
    }
    return TOB_OK;
}

static tob_error read_file(const char *path, char **ret) {
    tob_error err = TOB_OK;
    char *text = NULL;
    FILE *file = fopen(path, "re");
    if (!file) {
        return tob_error_from_errno(errno);
    }
    text = malloc(TOB_SECRET_FILE_MAX_BYTES + 1);
    if (!text) {
        err = TOB_NO_MEMORY;
        goto out;
    }
    size_t n = fread(text, 1, TOB_SECRET_FILE_MAX_BYTES + 1, file);
    if (ferror(file)) {
        err = TOB_IO;
        goto out;
    }
    if (n > TOB_SECRET_FILE_MAX_BYTES) {
        err = TOB_TOO_LARGE;
        goto out;
    }
    text[n] = 0;
    *ret = text;
    text = NULL;
out:
    if (text) {
        OPENSSL_cleanse(text, TOB_SECRET_FILE_MAX_BYTES + 1);
        free(text);
    }
    fclose(file);
    return err;
}

static tob_error each_secret(const char *list, const char *path, secret_fn fn, void *user) {
    tob_error err = list ? each_in_text(list, ",", fn, user) : TOB_OK;
    if (err || !path || !*path) {
        return err;
    }
    char *text = NULL;
    err = read_file(path, &text);
    if (!err) {
        err = each_in_text(text, "\n", fn, user);
        OPENSSL_cleanse(text, strlen(text));
        free(text);
    }
    return err;
}

typedef struct hash_set {
    uint8_t hashes[TOB_SECRETS_MAX][TOB_SHA256_BYTES];
    size_t count;
} hash_set;

static tob_error add_hash(void *user, const char *token, size_t len) {
    hash_set *set = user;
    if (len > TOB_SECRET_MAX_BYTES || set->count == TOB_SECRETS_MAX) {
        return TOB_TOO_LARGE;
    }
    tob_sha256(token, len, set->hashes[set->count++]);
    return TOB_OK;
}

static tob_error load(tob_secrets *secrets, bool keep_if_empty) {
    hash_set set = {.count = 0};
    tob_error err = each_secret(secrets->list, secrets->path, add_hash, &set);
    if (err) {
        return err;
    }
    if (set.count == 0 && keep_if_empty) {
        return TOB_PRECONDITION;
    }
    pthread_rwlock_wrlock(&secrets->lock);
    memcpy(secrets->hashes, set.hashes, sizeof(set.hashes));
    secrets->count = set.count;
    pthread_rwlock_unlock(&secrets->lock);
    return TOB_OK;
}

tob_error tob_secrets_new(const char *list, const char *path, tob_secrets **ret) {
    tob_secrets *secrets = calloc(1, sizeof(*secrets));
    if (!secrets) {
        return TOB_NO_MEMORY;
    }
    pthread_rwlock_init(&secrets->lock, NULL);
    secrets->list = strdup(list ? list : "");
    secrets->path = strdup(path ? path : "");
    tob_error err = secrets->list && secrets->path ? load(secrets, false) : TOB_NO_MEMORY;
    if (err) {
        tob_secrets_free(secrets);
        return err;
    }
    *ret = secrets;
    return TOB_OK;
}

void tob_secrets_free(tob_secrets *secrets) {
    if (!secrets) {
        return;
    }
    if (secrets->list) {
        OPENSSL_cleanse(secrets->list, strlen(secrets->list));
    }
    free(secrets->list);
    free(secrets->path);
    pthread_rwlock_destroy(&secrets->lock);
    free(secrets);
}

size_t tob_secrets_count(tob_secrets *secrets) {
    pthread_rwlock_rdlock(&secrets->lock);
    size_t count = secrets->count;
    pthread_rwlock_unlock(&secrets->lock);
    return count;
}

tob_error tob_secrets_reload(tob_secrets *secrets) {
    return load(secrets, true);
}

bool tob_secrets_match(tob_secrets *secrets, const char *token, size_t len) {
    if (len > TOB_SECRET_MAX_BYTES) {
        return false;
    }
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(token, len, hash);
    bool found = false;
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->count; i++) {
        found |= tob_equal_constant_time(hash, secrets->hashes[i], sizeof(hash));
    }
    pthread_rwlock_unlock(&secrets->lock);
    return found;
}

tob_error tob_bearer(const char *header, size_t len, const char **ret_token, size_t *ret_len) {
    static const char scheme[] = "Bearer ";
    size_t n = sizeof(scheme) - 1;
    if (!header || len <= n || strncasecmp(header, scheme, n) != 0) {
        return TOB_UNAUTHENTICATED;
    }
    while (n < len && header[n] == ' ') {
        n++;
    }
    while (len > n && header[len - 1] == ' ') {
        len--;
    }
    if (n == len) {
        return TOB_UNAUTHENTICATED;
    }
    *ret_token = header + n;
    *ret_len = len - n;
    return TOB_OK;
}

static tob_error take_first(void *user, const char *token, size_t len) {
    char **ret = user;
    if (*ret) {
        return TOB_OK;
    }
    *ret = strndup(token, len);
    return *ret ? TOB_OK : TOB_NO_MEMORY;
}

tob_error tob_secret_read_first(const char *list, const char *path, char **ret) {
    char *first = NULL;
    tob_error err = each_secret(list, path, take_first, &first);
    if (!err && !first) {
        err = TOB_NOT_FOUND;
    }
    if (err) {
        free(first);
        return err;
    }
    *ret = first;
    return TOB_OK;
}
