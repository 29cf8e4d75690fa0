// What the tests of certificates in the registry share.
#ifndef TOB_TESTS_REGISTRY_CERTIFICATES_RIG_H
#define TOB_TESTS_REGISTRY_CERTIFICATES_RIG_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/ca.h"
#include "ingestd/certificates.h"
#include "ingestd/expiries.h"
#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"
#include "ingestd/registry_headends.h"
#include "ingestd/revocations.h"
#include "tests/unit/ingestd/both_engines.h"

#define NOW_S  UINT64_C(1800000000)
#define NOW_MS (NOW_S * 1000)

static char url[512];
static tob_registry *registry;

static const tob_registry_actor admin = {.who = "admin alice", .peer = "192.0.2.1"};

// *state is the engine.
static inline int set_up(void **state) {
    snprintf(url, sizeof(url), "%s", tob_test_database(*state));
    registry = open_registry(url);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    tob_registry_close(registry);
    return 0;
}

static inline void begin(void) {
    assert_int_equal(tob_registry_begin(registry, &admin, NOW_MS), TOB_OK);
}

static inline void commit(void) {
    assert_int_equal(tob_registry_commit(registry), TOB_OK);
}

static inline tob_error add(const char *serial, const char *type, const char *subject, uint64_t not_after) {
    const tob_registry_certificate c = {.serial = serial,
                                        .type = type,
                                        .subject = subject,
                                        .not_before_unix_s = NOW_S - 300,
                                        .not_after_unix_s = not_after,
                                        .reason = "",
                                        .fingerprint = "ab12",
                                        .pem = "-----BEGIN CERTIFICATE-----\n"};
    return tob_registry_add_certificate(registry, &c);
}

// In a change of its own: the one after it supersedes it.
static inline void add_ok(const char *serial, const char *type, const char *subject, uint64_t not_after) {
    begin();
    assert_int_equal(add(serial, type, subject, not_after), TOB_OK);
    commit();
}

static inline void revoke_ok(const char *serial, const char *reason) {
    begin();
    assert_int_equal(tob_registry_revoke_certificate(registry, serial, reason), TOB_OK);
    commit();
}

// What a reading showed, as lines.
typedef struct shown {
    char text[8192];
    size_t rows;
    size_t stop_at; // 0: never
} shown;

static inline tob_error show_serial(void *user, const tob_registry_certificate *c) {
    shown *s = user;
    strcat(strcat(s->text, c->serial), " ");
    return TOB_OK;
}

static inline const char *list(const char *subject, const char *after, uint32_t max) {
    static shown s;
    memset(&s, 0, sizeof(s));
    assert_int_equal(tob_registry_list_certificates(registry, subject, after, max, show_serial, &s), TOB_OK);
    return s.text;
}

static inline tob_error show_audit(void *user, const tob_registry_audit_entry *e) {
    shown *s = user;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof(s->text) - used, "%s|%s|%s|%s|%s\n", e->who, e->peer, e->action,
             e->target, e->detail);
    return TOB_OK;
}

// The newest first.
static inline const char *audit(const char *target, uint32_t max) {
    static shown s;
    memset(&s, 0, sizeof(s));
    assert_int_equal(tob_registry_list_audit(registry, UINT64_MAX, target, 0, max, show_audit, &s), TOB_OK);
    return s.text;
}

#endif
