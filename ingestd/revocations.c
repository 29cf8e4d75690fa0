#include "ingestd/revocations.h"

#include <stdio.h>
#include <stdlib.h>

#include "ingestd/registry_certificates.h"
#include "util/buffer.h"

#define LIFE_S (TOB_CA_CRL_HOURS * UINT64_C(3600))

struct tob_revocations {
    tob_registry *registry;
    const tob_ca *ca;
    tob_ca_list list; // without PEM: there is none yet
    uint64_t change;  // of certificates, that it shows
    uint64_t made_unix_s;
};

tob_error tob_revocations_new(tob_registry *registry, const tob_ca *ca, tob_revocations **ret) {
    tob_revocations *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    r->registry = registry;
    r->ca = ca;
    *ret = r;
    return TOB_OK;
}

void tob_revocations_free(tob_revocations *r) {
    if (!r) {
        return;
    }
    tob_ca_list_fini(&r->list);
    free(r);
}

static tob_error take_revoked(void *user, const tob_registry_certificate *c) {
    tob_ca_revoked revoked = {.revoked_unix_s = c->revoked_unix_ms / 1000,
                              .reason = tob_ca_reason(c->reason)};
    snprintf(revoked.serial, sizeof(revoked.serial), "%s", c->serial);
    if (!revoked.reason) {
        return TOB_DAMAGED;
    }
    return tob_buffer_append(user, &revoked, sizeof(revoked));
}

static tob_error make(tob_revocations *r, uint64_t now_unix_s, tob_ca_problem *problem) {
    uint64_t number = 0, forgotten = 0, change = 0;
    tob_buffer revoked;
    tob_ca_list list;
    // One more than a list may have, so that it is the authority who says that there are too many.
    tob_buffer_init(&revoked, (TOB_CA_MAX_REVOKED + 1) * sizeof(tob_ca_revoked));
    // The numbers come first: what is committed in between is in the list, and the next list has a greater number.
    tob_error err = tob_registry_last_change(r->registry, &number, &forgotten);
    if (!err) {
        err = tob_registry_certificates_change(r->registry, &change);
    }
    if (!err) {
        // RFC 5280 §3.3: an entry stays until it has been on a list made after its certificate's end.
        err = tob_registry_revoked_certificates(r->registry, now_unix_s - LIFE_S, take_revoked, &revoked);
    }
    size_t count = revoked.len / sizeof(tob_ca_revoked);
    if (!err || (err == TOB_TOO_LARGE && count > TOB_CA_MAX_REVOKED)) {
        err = tob_ca_revocation_list(r->ca, (const tob_ca_revoked *)(const void *)revoked.data, count, number,
                                     now_unix_s, &list, problem);
    }
    if (!err) {
        tob_ca_list_fini(&r->list);
        r->list = list;
        r->change = change;
        r->made_unix_s = now_unix_s;
    }
    tob_buffer_fini(&revoked);
    return err;
}

tob_error tob_revocations_get(tob_revocations *r, uint64_t now_unix_s, const tob_ca_list **ret,
                              tob_ca_problem *ret_problem) {
    uint64_t change = 0;
    ret_problem->text[0] = '\0';
    bool good = r->list.pem && now_unix_s >= r->made_unix_s && now_unix_s < r->list.next_update_unix_s;
    bool fresh = good && now_unix_s < r->made_unix_s + LIFE_S / 2;
    tob_error err = tob_registry_certificates_change(r->registry, &change);
    if (!err && (!fresh || change != r->change)) {
        err = make(r, now_unix_s, ret_problem);
    }
    if (err && !(err == TOB_UNAVAILABLE && good)) {
        return err;
    }
    *ret = &r->list;
    return TOB_OK;
}
