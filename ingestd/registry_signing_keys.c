#include "ingestd/registry_signing_keys.h"

#include <stdbool.h>

// Keys that ended so long ago that nobody asks for them any more.
static tob_error forget_old(tob_registry *registry) {
    uint64_t now = tob_registry_now(registry);
    uint64_t before = now > TOB_SIGNING_KEY_FORGET_MS ? now - TOB_SIGNING_KEY_FORGET_MS : 0;
    const tob_sql_value params[] = {tob_sql_integer(before)};
    return tob_sql_run(tob_registry_sql(registry), "DELETE FROM signing_keys WHERE expires_unix_ms < $1",
                       params, 1, NULL, NULL, NULL);
}

static tob_error retire_others(tob_registry *registry, uint64_t expire_unix_ms) {
    const tob_sql_value params[] = {tob_sql_integer(expire_unix_ms),
                                    tob_sql_integer(tob_registry_change(registry))};
    return tob_sql_run(
        tob_registry_sql(registry),
        "UPDATE signing_keys SET expires_unix_ms = $1, change = $2 WHERE expires_unix_ms IS NULL", params, 2,
        NULL, NULL, NULL);
}

static tob_error insert(tob_registry *registry, const tob_registry_signing_key *key) {
    const tob_sql_value params[] = {tob_sql_text(key->kid), tob_sql_text(key->private_jwk),
                                    tob_sql_integer(key->created_unix_ms),
                                    tob_sql_integer_or_null(key->expires_unix_ms),
                                    tob_sql_integer(tob_registry_change(registry))};
    return tob_sql_run(tob_registry_sql(registry),
                       "INSERT INTO signing_keys (kid, private_jwk, created_unix_ms, expires_unix_ms, "
                       "revoked_unix_ms, change) "
                       "VALUES ($1, $2, $3, $4, NULL, $5)",
                       params, 5, NULL, NULL, NULL);
}

tob_error tob_registry_add_signing_key(tob_registry *registry, const char *action,
                                       const tob_registry_signing_key *key, uint64_t others_expire_unix_ms) {
    tob_error err = forget_old(registry);
    if (!err && !key->expires_unix_ms) {
        err = retire_others(registry, others_expire_unix_ms);
    }
    if (!err) {
        err = insert(registry, key);
    }
    return err ? err : tob_registry_audit(registry, action, key->kid, "");
}

typedef struct state {
    bool signs;
    bool revoked;
} state;

static tob_error take_state(void *user, const tob_sql_row *row) {
    state *ret = user;
    *ret = (state){.signs = tob_sql_row_integer(row, 0) == 0, .revoked = tob_sql_row_integer(row, 1) != 0};
    return TOB_OK;
}

tob_error tob_registry_revoke_signing_key(tob_registry *registry, const char *kid) {
    tob_sql *sql = tob_registry_sql(registry);
    const tob_sql_value which[] = {tob_sql_text(kid)};
    state is = {.signs = false};
    uint64_t found = 0;
    tob_error err =
        tob_sql_run(sql,
                    "SELECT coalesce(expires_unix_ms, 0), coalesce(revoked_unix_ms, 0) FROM signing_keys "
                    "WHERE kid = $1",
                    which, 1, take_state, &is, &found);
    if (err || is.revoked) {
        return err;
    }
    if (found == 0) {
        return TOB_NOT_FOUND;
    }
    if (is.signs) {
        return TOB_PRECONDITION;
    }
    const tob_sql_value params[] = {tob_sql_integer(tob_registry_now(registry)),
                                    tob_sql_integer(tob_registry_change(registry)), tob_sql_text(kid)};
    err = tob_sql_run(sql, "UPDATE signing_keys SET revoked_unix_ms = $1, change = $2 WHERE kid = $3", params,
                      3, NULL, NULL, NULL);
    return err ? err : tob_registry_audit(registry, "signing_key.revoke", kid, "");
}

typedef struct listing {
    tob_registry_signing_key_fn fn;
    void *user;
} listing;

static tob_error list_row(void *user, const tob_sql_row *row) {
    const listing *to = user;
    tob_registry_signing_key key = {.kid = tob_sql_row_text(row, 0),
                                    .private_jwk = tob_sql_row_text(row, 1),
                                    .created_unix_ms = tob_sql_row_integer(row, 2),
                                    .expires_unix_ms = tob_sql_row_integer(row, 3),
                                    .revoked_unix_ms = tob_sql_row_integer(row, 4)};
    return to->fn(to->user, &key);
}

tob_error tob_registry_list_signing_keys(tob_registry *registry, tob_registry_signing_key_fn fn, void *user) {
    listing to = {.fn = fn, .user = user};
    return tob_sql_run(tob_registry_sql(registry),
                       "SELECT kid, private_jwk, created_unix_ms, expires_unix_ms, revoked_unix_ms "
                       "FROM signing_keys ORDER BY created_unix_ms DESC, change DESC, kid",
                       NULL, 0, list_row, &to, NULL);
}

static tob_error take_number(void *user, const tob_sql_row *row) {
    uint64_t *ret = user;
    *ret = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

tob_error tob_registry_signing_keys_change(tob_registry *registry, uint64_t *ret) {
    uint64_t change = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), "SELECT max(change) FROM signing_keys", NULL, 0,
                                take_number, &change, NULL);
    if (!err) {
        *ret = change;
    }
    return err;
}
