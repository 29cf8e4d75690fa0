#include "ingestd/signing_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingestd/jwt_keys.h"
#include "ingestd/registry_signing_keys.h"
#include "util/clock.h"

#define MAX_PATH_BYTES    4096
#define MAX_ATTEMPTS      20 // others that start together change the registry too

#define SAY(problem, ...) snprintf((problem), TOB_JWT_PROBLEM_BYTES, __VA_ARGS__)

static void wipe(char *secret) {
    if (secret) {
        OPENSSL_cleanse(secret, strlen(secret));
        free(secret);
    }
}

static bool is_live(const tob_registry_signing_key *key, uint64_t now_unix_ms) {
    return !key->revoked_unix_ms && (!key->expires_unix_ms || key->expires_unix_ms > now_unix_ms);
}

// ---- from the registry into the jwt

typedef struct reading {
    tob_jwt_own_key keys[TOB_JWT_MAX_OWN_KEYS];
    size_t count;
    uint64_t now_unix_ms;
    bool live; // which ones are read
} reading;

// A key that is over is kept in mind while there is room, so that nobody else's key can have its name.
static tob_error read_key(void *user, const tob_registry_signing_key *key) {
    reading *r = user;
    if (is_live(key, r->now_unix_ms) != r->live) {
        return TOB_OK;
    }
    if (r->count == TOB_JWT_MAX_OWN_KEYS) {
        return r->live ? TOB_TOO_LARGE : TOB_OK;
    }
    char *text = strdup(key->private_jwk);
    if (!text) {
        return TOB_NO_MEMORY;
    }
    r->keys[r->count++] =
        (tob_jwt_own_key){.private_jwk = text,
                          .expires_unix_ms = key->revoked_unix_ms ? 1 : key->expires_unix_ms,
                          .signs = r->live && !key->expires_unix_ms};
    return TOB_OK;
}

tob_error tob_signing_keys_changed(void *jwt, tob_registry *registry) {
    reading r = {.now_unix_ms = tob_clock_unix_ms(), .live = true};
    tob_error err = tob_registry_list_signing_keys(registry, read_key, &r);
    if (!err) {
        r.live = false;
        err = tob_registry_list_signing_keys(registry, read_key, &r);
    }
    if (!err) {
        err = tob_jwt_set_own(jwt, r.keys, r.count);
    }
    for (size_t i = 0; i < r.count; i++) {
        wipe((char *)r.keys[i].private_jwk);
    }
    return err;
}

typedef struct counting {
    uint64_t now_unix_ms;
    size_t live;
} counting;

static tob_error count_key(void *user, const tob_registry_signing_key *key) {
    counting *c = user;
    c->live += is_live(key, c->now_unix_ms);
    return TOB_OK;
}

tob_error tob_signing_keys_count_live(tob_registry *registry, uint64_t now_unix_ms, size_t *ret) {
    counting c = {.now_unix_ms = now_unix_ms};
    tob_error err = tob_registry_list_signing_keys(registry, count_key, &c);
    if (!err) {
        *ret = c.live;
    }
    return err;
}

// ---- the first key

// The key of an old file; private_jwk is NULL when there is no file.
typedef struct old_key {
    char *path;
    char *private_jwk;
    char kid[TOB_JWT_KID_BYTES];
} old_key;

static tob_error read_old(const char *state_dir, old_key *ret, char *ret_problem) {
    char *text = NULL;
    size_t len = 0;
    if (asprintf(&ret->path, "%s/%s", state_dir, TOB_SIGNING_KEYS_OLD_FILE) < 0) {
        ret->path = NULL;
        SAY(ret_problem, "%s", tob_error_string(TOB_NO_MEMORY));
        return TOB_NO_MEMORY;
    }
    tob_error err = tob_jwt_read_file(ret->path, true, &text, &len, ret_problem);
    if (err) {
        return err == TOB_NOT_FOUND ? TOB_OK : err;
    }
    err = tob_jwt_import_key(text, len, &ret->private_jwk, ret->kid);
    if (err) {
        SAY(ret_problem, "%s: %s", ret->path,
            err == TOB_MALFORMED ? "not a private P-256 key as JWK" : tob_error_string(err));
    }
    OPENSSL_cleanse(text, len);
    free(text);
    return err;
}

// A file that comes back after a crash would only be imported again: its name need not be gone for good.
static tob_error remove_old(const old_key *old, char *ret_problem) {
    if (old->private_jwk && unlink(old->path) != 0) {
        SAY(ret_problem, "%s: can't remove it after its import: %s", old->path, strerror(errno));
        return TOB_IO;
    }
    return TOB_OK;
}

// What the registry has.
typedef struct inventory {
    const char *kid; // that is looked for
    bool has_kid;
    bool has_signer;
} inventory;

static tob_error take_stock(void *user, const tob_registry_signing_key *key) {
    inventory *has = user;
    has->has_kid |= strcmp(key->kid, has->kid) == 0;
    has->has_signer |= !key->expires_unix_ms;
    return TOB_OK;
}

static tob_error look(tob_registry *registry, const old_key *old, inventory *ret, bool *ret_complete) {
    *ret = (inventory){.kid = old->kid};
    tob_error err = tob_registry_list_signing_keys(registry, take_stock, ret);
    *ret_complete = ret->has_signer && (!old->private_jwk || ret->has_kid);
    return err;
}

static tob_error add_old(tob_registry *registry, const old_key *old, uint64_t expires_unix_ms) {
    tob_registry_signing_key key = {.kid = old->kid,
                                    .private_jwk = old->private_jwk,
                                    .created_unix_ms = tob_registry_now(registry),
                                    .expires_unix_ms = expires_unix_ms};
    return tob_registry_add_signing_key(registry, "signing_key.import", &key, 0);
}

static tob_error add_new(tob_registry *registry) {
    char *text = NULL, kid[TOB_JWT_KID_BYTES];
    tob_error err = tob_jwt_make_key(&text, kid);
    if (!err) {
        tob_registry_signing_key key = {.kid = kid,
                                        .private_jwk = text,
                                        .created_unix_ms = tob_registry_now(registry)};
        err = tob_registry_add_signing_key(registry, "signing_key.make", &key, 0);
    }
    wipe(text);
    return err;
}

// In a change: of several processes that start together one adds the first key, and the others see it.
static tob_error complete(tob_registry *registry, const old_key *old, uint64_t now_unix_ms) {
    inventory has;
    bool is_complete = false;
    tob_error err = look(registry, old, &has, &is_complete);
    if (err || is_complete) {
        return err;
    }
    if (old->private_jwk && !has.has_kid) {
        err = add_old(registry, old, has.has_signer ? now_unix_ms + TOB_SIGNING_KEYS_OVERLAP_MS : 0);
        has.has_signer = true;
    }
    return err || has.has_signer ? err : add_new(registry);
}

static tob_error ensure(tob_registry *registry, const old_key *old, uint64_t now_unix_ms) {
    static const tob_registry_actor ourselves = {.who = "ingestd", .peer = ""};
    inventory has;
    bool is_complete = false;
    tob_error err = look(registry, old, &has, &is_complete);
    if (err || is_complete) {
        return err;
    }
    err = tob_registry_begin(registry, &ourselves, now_unix_ms);
    if (!err) {
        err = complete(registry, old, now_unix_ms);
    }
    if (!err) {
        err = tob_registry_commit(registry);
    }
    tob_registry_rollback(registry);
    return err;
}

tob_error tob_signing_keys_open(tob_registry *registry, tob_jwt *jwt, const char *state_dir,
                                uint64_t now_unix_ms, char *ret_problem) {
    old_key old = {.path = NULL};
    tob_error err = read_old(state_dir, &old, ret_problem);
    if (err) {
        goto out;
    }
    err = TOB_ABORTED;
    for (int i = 0; i < MAX_ATTEMPTS && err == TOB_ABORTED; i++) {
        err = ensure(registry, &old, now_unix_ms);
    }
    if (!err) {
        err = tob_signing_keys_changed(jwt, registry);
    }
    if (err) {
        SAY(ret_problem, "can't read or add the keys that sign: %s: %s", tob_error_string(err),
            tob_registry_last_problem(registry));
        goto out;
    }
    err = remove_old(&old, ret_problem);
out:
    wipe(old.private_jwk);
    free(old.path);
    return err;
}
