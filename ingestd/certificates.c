#include "ingestd/certificates.h"

#include <stdlib.h>

#include "ingestd/expiries.h"
#include "ingestd/registry_certificates.h"

typedef struct authority {
    uint64_t now_unix_s;
    tob_ca *ca;
    tob_ca_problem *problem;
} authority;

static tob_error take_authority(void *user, const char *certificate_pem, const char *key_pem) {
    authority *a = user;
    return tob_ca_new(certificate_pem, key_pem, &a->ca, a->problem);
}

// Makes the authority in a change of its own. The change has the registry to itself, so nobody can be first who was not there
// when it looks.
static tob_error make_authority(tob_registry *registry, authority *a) {
    const tob_registry_actor ourselves = {.who = "ingestd", .peer = ""};
    char *certificate_pem = NULL, *key_pem = NULL;
    tob_error err = tob_registry_begin(registry, &ourselves, a->now_unix_s * 1000);
    if (err) {
        return err;
    }
    err = tob_registry_get_authority(registry, take_authority, a);
    if (err != TOB_NOT_FOUND) {
        tob_registry_rollback(registry);
        return err;
    }
    err = tob_ca_make(a->now_unix_s, &certificate_pem, &key_pem, a->problem);
    if (!err) {
        err = take_authority(a, certificate_pem, key_pem);
    }
    if (!err) {
        err = tob_registry_set_authority(registry, certificate_pem, key_pem);
    }
    if (!err) {
        err = tob_registry_commit(registry);
    }
    if (err) {
        tob_registry_rollback(registry);
        tob_ca_free(a->ca);
        a->ca = NULL;
    }
    free(certificate_pem);
    tob_ca_free_key(key_pem);
    return err;
}

tob_error tob_certificates_open(tob_registry *registry, const char *certificate_path, const char *key_path,
                                uint64_t now_unix_s, tob_ca **ret, tob_ca_problem *ret_problem) {
    authority a = {.now_unix_s = now_unix_s, .problem = ret_problem};
    ret_problem->text[0] = '\0';
    if (certificate_path && *certificate_path) {
        return tob_ca_load(certificate_path, key_path ? key_path : "", ret, ret_problem);
    }
    tob_error err = tob_registry_get_authority(registry, take_authority, &a);
    for (int attempt = 0; err == TOB_NOT_FOUND || (err == TOB_ABORTED && attempt < 3); attempt++) {
        err = make_authority(registry, &a);
    }
    if (err) {
        return err;
    }
    *ret = a.ca;
    return TOB_OK;
}

typedef struct found_expiries {
    tob_expiry rows[TOB_EXPIRIES_MAX];
    size_t count;
} found_expiries;

static tob_error take_expiry(void *user, const char *type, uint64_t not_after_unix_s) {
    found_expiries *found = user;
    if (found->count < TOB_EXPIRIES_MAX) {
        found->rows[found->count++] = (tob_expiry){.type = type, .not_after_unix_s = not_after_unix_s};
    }
    return TOB_OK;
}

tob_error tob_certificates_changed(void *expiries, tob_registry *registry) {
    found_expiries found = {.count = 0};
    tob_error err = tob_registry_certificate_expiries(registry, take_expiry, &found);
    if (!err) {
        tob_expiries_set(expiries, found.rows, found.count);
    }
    return err;
}
