#include "util/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "util/random.h"
#include "util/text.h"

// One token: its hash, and its name or "".
typedef struct entry {
    uint8_t hash[TOB_SHA256_BYTES];
    char name[TOB_SECRET_NAME_BYTES];
} entry;

struct tob_secrets {
    pthread_rwlock_t lock; // guards entries, count
    entry entries[TOB_SECRETS_MAX];
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

// A piece of a text; not a string.
typedef struct span {
    const char *at;
    size_t len;
} span;

// secret_fn takes one token and its name, which may be empty; an error ends the walk.
typedef tob_error (*secret_fn)(void *user, span token, span name);

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static span trim(span s) {
    while (s.len && is_blank(*s.at)) {
        s.at++;
        s.len--;
    }
    while (s.len && is_blank(s.at[s.len - 1])) {
        s.len--;
    }
    return s;
}

// The first word of a text, taken from it.
static span take_word(span *text) {
    *text = trim(*text);
    span word = {.at = text->at, .len = 0};
    while (word.len < text->len && !is_blank(word.at[word.len])) {
        word.len++;
    }
    text->at += word.len;
    text->len -= word.len;
    *text = trim(*text);
    return word;
}

static bool is_name(span s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        bool good =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._:@-", c);
        if (!c || !good) {
            return false;
        }
    }
    return s.len < TOB_SECRET_NAME_BYTES;
}

static bool ends(span rest) {
    return rest.len == 0 || *rest.at == '#';
}

static tob_error each_line(span line, secret_fn fn, void *user) {
    span rest = trim(line), name = {.len = 0};
    if (ends(rest)) {
        return TOB_OK;
    }
    span token = take_word(&rest);
    if (!ends(rest)) {
        name = take_word(&rest);
    }
    return is_name(name) && ends(rest) ? fn(user, token, name) : TOB_MALFORMED;
}

// In a list a blank may be part of a token; there are no names.
static tob_error each_element(span element, secret_fn fn, void *user) {
    span token = trim(element);
    return ends(token) ? TOB_OK : fn(user, token, (span){.len = 0});
}

static tob_error each_in_text(const char *text, char separator, secret_fn fn, void *user) {
    const char separators[] = {separator, 0};
    for (const char *at = text; *at;) {
        span part = {.at = at, .len = strcspn(at, separators)};
        tob_error err = separator == '\n' ? each_line(part, fn, user) : each_element(part, fn, user);
        if (err) {
            return err;
        }
        at += part.len + (at[part.len] != 0);
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
    setvbuf(file, NULL, _IONBF, 0); // no copy in a buffer that nobody wipes
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
    tob_error err = list ? each_in_text(list, ',', fn, user) : TOB_OK;
    if (err || !path || !*path) {
        return err;
    }
    char *text = NULL;
    err = read_file(path, &text);
    if (!err) {
        err = each_in_text(text, '\n', fn, user);
        OPENSSL_cleanse(text, strlen(text));
        free(text);
    }
    return err;
}

typedef struct entry_set {
    entry entries[TOB_SECRETS_MAX];
    size_t count;
} entry_set;

static tob_error add_entry(void *user, span token, span name) {
    entry_set *set = user;
    if (token.len > TOB_SECRET_MAX_BYTES || set->count == TOB_SECRETS_MAX) {
        return TOB_TOO_LARGE;
    }
    entry *e = &set->entries[set->count++];
    tob_sha256(token.at, token.len, e->hash);
    if (name.len) {
        memcpy(e->name, name.at, name.len);
    }
    e->name[name.len] = 0;
    return TOB_OK;
}

static tob_error load(tob_secrets *secrets, bool keep_if_empty) {
    entry_set set = {.count = 0};
    tob_error err = each_secret(secrets->list, secrets->path, add_entry, &set);
    if (err) {
        return err;
    }
    if (set.count == 0 && keep_if_empty) {
        return TOB_PRECONDITION;
    }
    pthread_rwlock_wrlock(&secrets->lock);
    memcpy(secrets->entries, set.entries, sizeof(set.entries));
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

// Goes through all of them, wherever one matches.
static bool find(tob_secrets *secrets, const uint8_t hash[TOB_SHA256_BYTES], char *ret_name) {
    bool found = false;
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->count; i++) {
        const entry *e = &secrets->entries[i];
        bool is_it = tob_equal_constant_time(hash, e->hash, sizeof(e->hash));
        if (is_it && !found && ret_name) {
            memcpy(ret_name, e->name, sizeof(e->name));
        }
        found |= is_it;
    }
    pthread_rwlock_unlock(&secrets->lock);
    return found;
}

bool tob_secrets_match_named(tob_secrets *secrets, const char *token, size_t len,
                             char ret_name[TOB_SECRET_NAME_BYTES]) {
    if (len > TOB_SECRET_MAX_BYTES) {
        return false;
    }
    uint8_t hash[TOB_SHA256_BYTES];
    char name[TOB_SECRET_NAME_BYTES] = "";
    tob_sha256(token, len, hash);
    if (!find(secrets, hash, name)) {
        return false;
    }
    if (*name) {
        memcpy(ret_name, name, sizeof(name));
    } else {
        snprintf(ret_name, TOB_SECRET_NAME_BYTES, "token %02x%02x%02x%02x", hash[0], hash[1], hash[2],
                 hash[3]);
    }
    return true;
}

bool tob_secrets_match(tob_secrets *secrets, const char *token, size_t len) {
    if (len > TOB_SECRET_MAX_BYTES) {
        return false;
    }
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(token, len, hash);
    return find(secrets, hash, NULL);
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

static tob_error take_first(void *user, span token, span name) {
    char **ret = user;
    (void)name; // is for those who check tokens
    if (*ret) {
        return TOB_OK;
    }
    *ret = strndup(token.at, token.len);
    return *ret ? TOB_OK : TOB_NO_MEMORY;
}

tob_error tob_secret_read_first(const char *list, const char *path, char **ret) {
    char *first = NULL;
    tob_error err = each_secret(list, path, take_first, &first);
    if (!err && !first) {
        err = TOB_NOT_FOUND;
    }
    if (err) {
        if (first) {
            OPENSSL_cleanse(first, strlen(first));
        }
        free(first);
        return err;
    }
    *ret = first;
    return TOB_OK;
}

void tob_api_key_make(char ret[TOB_API_KEY_BYTES]) {
    uint8_t bytes[32];
    tob_random_bytes(bytes, sizeof(bytes));
    memcpy(ret, "tobk_", 5);
    tob_base64url_encode(bytes, sizeof(bytes), ret + 5);
    OPENSSL_cleanse(bytes, sizeof(bytes));
}

bool tob_secret_file_exposed(const char *path) {
    struct stat st;
    return path && *path && stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO));
}
