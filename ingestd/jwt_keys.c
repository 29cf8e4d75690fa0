#include "ingestd/jwt_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ingestd/jwt_token.h"
#include "util/secret.h"
#include "util/text.h"

#define SAY(problem, ...) snprintf((problem), TOB_JWT_PROBLEM_BYTES, __VA_ARGS__)

static tob_error read_all(int fd, char *to, size_t max, size_t *ret) {
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, to + n, max - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return TOB_IO;
        }
        if (got == 0) {
            *ret = n;
            return TOB_OK;
        }
        n += (size_t)got;
        if (n == max) {
            return TOB_TOO_LARGE;
        }
    }
}

tob_error tob_jwt_read_file(const char *path, bool is_secret, char **ret, size_t *ret_len,
                            char *ret_problem) {
    tob_error err = TOB_OK;
    char *text = NULL;
    size_t n = 0;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        err = errno == ENOENT ? TOB_NOT_FOUND : TOB_IO;
        SAY(ret_problem, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (is_secret && (st.st_mode & 07)) {
        SAY(ret_problem, "%s: everyone may read this private key: chmod 600 it", path);
        err = TOB_PRECONDITION;
        goto out;
    }
    text = malloc(TOB_JWT_MAX_FILE_BYTES + 1);
    if (!text) {
        err = TOB_NO_MEMORY;
        SAY(ret_problem, "%s: %s", path, tob_error_string(err));
        goto out;
    }
    err = read_all(fd, text, TOB_JWT_MAX_FILE_BYTES + 1, &n);
    if (err) {
        SAY(ret_problem, "%s: %s", path, err == TOB_IO ? strerror(errno) : "more than 1 MiB");
        OPENSSL_cleanse(text, TOB_JWT_MAX_FILE_BYTES + 1);
        goto out;
    }
    *ret = text;
    *ret_len = n;
    text = NULL;
out:
    free(text);
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static tob_error load_json(const char *path, json_t **ret, char *ret_problem) {
    char *text = NULL;
    size_t n = 0;
    json_error_t where;
    tob_error err = tob_jwt_read_file(path, false, &text, &n, ret_problem);
    if (err) {
        return err;
    }
    *ret = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!*ret) {
        // the text of the error could show a key that is in the file by mistake
        SAY(ret_problem, "%s: line %d: not JSON", path, where.line);
        err = TOB_MALFORMED;
    }
    OPENSSL_cleanse(text, n);
    free(text);
    return err;
}

size_t tob_jwk_number(const json_t *jwk, const char *member, uint8_t *to, size_t max) {
    const json_t *value = json_object_get(jwk, member);
    size_t n = 0;
    if (!json_is_string(value) ||
        !tob_base64url_decode_strict(json_string_value(value), json_string_length(value), to, max, &n)) {
        return 0;
    }
    size_t zeros = 0;
    while (zeros < n && to[zeros] == 0) {
        zeros++;
    }
    memmove(to, to + zeros, n - zeros);
    return n - zeros;
}

const char *tob_jwk_text(const json_t *jwk, const char *member) {
    const char *text = json_string_value(json_object_get(jwk, member));
    return text ? text : "";
}

// The algorithm that a key is pinned to. An RSA key without `alg` is for RS256.
static const char *pin_rsa(const char *alg) {
    static const char *const known[] = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(*alg ? alg : "RS256", known[i]) == 0) {
            return known[i];
        }
    }
    return NULL;
}

static const char *fill_rsa(const json_t *jwk, tob_jwt_key *key) {
    uint8_t n[TOB_JWT_MAX_RSA_BITS / 8 + 8], e[16];
    size_t n_bytes = tob_jwk_number(jwk, "n", n, sizeof(n)), e_bytes = tob_jwk_number(jwk, "e", e, sizeof(e));
    if (n_bytes < TOB_JWT_MIN_RSA_BITS / 8 || n_bytes > TOB_JWT_MAX_RSA_BITS / 8) {
        return "an RSA key must have 2048 to 8192 bits";
    }
    if (e_bytes == 0 || !(e[e_bytes - 1] & 1) || (e_bytes == 1 && e[0] < 3)) {
        return "the RSA exponent is not usable";
    }
    key->alg = pin_rsa(tob_jwk_text(jwk, "alg"));
    key->signature_bytes = n_bytes;
    return key->alg ? NULL : "its alg is not for an RSA signature";
}

static const char *fill_ec(const json_t *jwk, tob_jwt_key *key) {
    static const struct {
        const char *curve, *alg;
        size_t bytes;
    } known[] = {{"P-256", "ES256", 64}, {"P-384", "ES384", 96}, {"P-521", "ES512", 132}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(tob_jwk_text(jwk, "crv"), known[i].curve) == 0) {
            const char *alg = tob_jwk_text(jwk, "alg");
            key->alg = known[i].alg;
            key->signature_bytes = known[i].bytes;
            return *alg && strcmp(alg, key->alg) != 0 ? "its alg is not the one of its curve" : NULL;
        }
    }
    return "its curve is not P-256, P-384 or P-521";
}

static bool is_for_signatures(const json_t *jwk) {
    const json_t *operations = json_object_get(jwk, "key_ops"), *operation = NULL;
    if (json_object_get(jwk, "use") && strcmp(tob_jwk_text(jwk, "use"), "sig") != 0) {
        return false;
    }
    size_t i = 0;
    json_array_foreach(operations, i, operation) {
        if (json_is_string(operation) && strcmp(json_string_value(operation), "verify") == 0) {
            return true;
        }
    }
    return !operations;
}

static const char *import_public(const json_t *jwk, tob_jwt_key *key) {
    static const char *const private_members[] = {"d", "p", "q", "dp", "dq", "qi", "oth"};
    json_t *public = json_copy((json_t *)jwk);
    cjose_err why = {.code = CJOSE_ERR_NONE};
    if (!public) {
        return "out of memory";
    }
    for (size_t i = 0; i < sizeof(private_members) / sizeof(private_members[0]); i++) {
        json_object_del(public, private_members[i]);
    }
    key->jwk = cjose_jwk_import_json(public, &why);
    json_decref(public);
    ERR_clear_error();
    return key->jwk ? NULL : "it is not a valid key";
}

// Reads one key of a set.
//   ret_ignored   not for us
// Returns what is wrong with it, or NULL.
static const char *fill_key(const json_t *jwk, tob_jwt_key *key, bool *ret_ignored) {
    const char *kty = tob_jwk_text(jwk, "kty"), *kid = tob_jwk_text(jwk, "kid");
    bool is_rsa = strcmp(kty, "RSA") == 0, is_ec = strcmp(kty, "EC") == 0;
    *ret_ignored = false;
    if (strcmp(kty, "oct") == 0) {
        return "it is symmetric: whoever can check a token could also make one";
    }
    if (!json_is_object(jwk) || !*kty) {
        return "it has no kty";
    }
    if ((!is_rsa && !is_ec) || !is_for_signatures(jwk)) {
        *ret_ignored = true; // RFC 7517 §5
        return NULL;
    }
    if (!*kid || strlen(kid) > TOB_JWT_MAX_KID_BYTES) {
        return "it has no kid of 1 to 256 bytes";
    }
    const char *wrong = is_rsa ? fill_rsa(jwk, key) : fill_ec(jwk, key);
    if (wrong) {
        return wrong;
    }
    key->kid = strdup(kid);
    return key->kid ? import_public(jwk, key) : "out of memory";
}

const tob_jwt_key *tob_jwt_keys_find(const tob_jwt_keys *keys, const char *kid) {
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->keys[i].kid, kid) == 0) {
            return &keys->keys[i];
        }
    }
    return NULL;
}

static tob_error add_keys(const char *path, const json_t *array, tob_jwt_keys *keys, char *ret_problem) {
    const json_t *jwk = NULL;
    size_t i = 0;
    json_array_foreach(array, i, jwk) {
        tob_jwt_key key = {.kid = NULL};
        bool ignored = false;
        const char *wrong = fill_key(jwk, &key, &ignored);
        if (!wrong && !ignored && tob_jwt_keys_find(keys, key.kid)) {
            wrong = "another key has the same kid";
        }
        if (wrong || ignored) {
            tob_jwt_key_fini(&key);
        }
        if (wrong) {
            SAY(ret_problem, "%s: key %zu: %s", path, i + 1, wrong);
            return TOB_MALFORMED;
        }
        if (!ignored) {
            keys->keys[keys->count++] = key;
        }
    }
    return TOB_OK;
}

tob_error tob_jwt_keys_load(const char *path, tob_jwt_keys *ret, char *ret_problem) {
    json_t *file = NULL;
    tob_jwt_keys keys = {.keys = NULL};
    tob_error err = load_json(path, &file, ret_problem);
    if (err) {
        return err == TOB_NOT_FOUND ? TOB_IO : err;
    }
    const json_t *array = json_object_get(file, "keys");
    if (!json_is_array(array)) {
        SAY(ret_problem, "%s: not a JWK set: it has no array \"keys\"", path);
        err = TOB_MALFORMED;
        goto out;
    }
    if (json_array_size(array) > TOB_JWT_MAX_KEYS) {
        SAY(ret_problem, "%s: more than %d keys", path, TOB_JWT_MAX_KEYS);
        err = TOB_TOO_LARGE;
        goto out;
    }
    keys.keys = calloc(json_array_size(array) + 1, sizeof(*keys.keys));
    if (!keys.keys) {
        SAY(ret_problem, "%s: %s", path, tob_error_string(TOB_NO_MEMORY));
        err = TOB_NO_MEMORY;
        goto out;
    }
    err = add_keys(path, array, &keys, ret_problem);
    if (err) {
        goto out;
    }
    *ret = keys;
    keys = (tob_jwt_keys){.keys = NULL};
out:
    tob_jwt_keys_fini(&keys);
    json_decref(file);
    return err;
}

void tob_jwt_key_fini(tob_jwt_key *key) {
    cjose_jwk_release(key->jwk);
    free(key->kid);
    *key = (tob_jwt_key){.kid = NULL};
}

void tob_jwt_keys_fini(tob_jwt_keys *keys) {
    for (size_t i = 0; i < keys->count; i++) {
        tob_jwt_key_fini(&keys->keys[i]);
    }
    free(keys->keys);
    *keys = (tob_jwt_keys){.keys = NULL};
}
