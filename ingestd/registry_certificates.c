#include "ingestd/registry_certificates.h"

#include <stdio.h>
#include <string.h>

#include "util/text.h"

#define MAX_SERIAL_BYTES 64
#define MAX_TYPE_BYTES   16
#define ROUND            256 // certificates that are revoked together

#define COLUMNS                                                                                              \
    "serial, type, subject, not_before_unix_s, not_after_unix_s, revoked_unix_ms, reason, fingerprint, pem"

static tob_error run(tob_registry *registry, const char *statement, const tob_sql_value *params, size_t count,
                     uint64_t *ret_count) {
    return tob_sql_run(tob_registry_sql(registry), statement, params, count, NULL, NULL, ret_count);
}

// What a line of the audit log needs.
typedef struct subject_of {
    char type[MAX_TYPE_BYTES];
    char subject[TOB_MAX_ID_BYTES + 1];
} subject_of;

static tob_error take_subject(void *user, const tob_sql_row *row) {
    subject_of *s = user;
    snprintf(s->type, sizeof(s->type), "%s", tob_sql_row_text(row, 0));
    snprintf(s->subject, sizeof(s->subject), "%s", tob_sql_row_text(row, 1));
    return TOB_OK;
}

static tob_error audit(tob_registry *registry, const char *action, const char *serial, const char *type,
                       const char *subject, const char *reason) {
    char detail[MAX_TYPE_BYTES + TOB_MAX_ID_BYTES + MAX_SERIAL_BYTES];
    snprintf(detail, sizeof(detail), "%s %s%s%s", type, subject, *reason ? ": " : "", reason);
    return tob_registry_audit(registry, action, serial, detail);
}

tob_error tob_registry_add_certificate(tob_registry *registry, const tob_registry_certificate *c) {
    static const char supersede[] =
        "UPDATE certificates SET newest = 0 WHERE subject = $1 AND type = $2 AND newest = 1";
    static const char add[] =
        "INSERT INTO certificates (serial, type, subject, not_before_unix_s, not_after_unix_s, reason, "
        "fingerprint, pem, newest, change) VALUES ($1, $2, $3, $4, $5, '', $6, $7, 1, $8)";
    const tob_sql_value of[] = {tob_sql_text(c->subject), tob_sql_text(c->type)};
    const tob_sql_value values[] = {tob_sql_text(c->serial),
                                    tob_sql_text(c->type),
                                    tob_sql_text(c->subject),
                                    tob_sql_integer(c->not_before_unix_s),
                                    tob_sql_integer(c->not_after_unix_s),
                                    tob_sql_text(c->fingerprint),
                                    tob_sql_text(c->pem),
                                    tob_sql_integer(tob_registry_change(registry))};
    tob_error err = run(registry, supersede, of, 2, NULL);
    if (!err) {
        err = run(registry, add, values, sizeof(values) / sizeof(values[0]), NULL);
    }
    if (!err) {
        err = audit(registry, "certificate.issue", c->serial, c->type, c->subject, "");
    }
    return err;
}

// After a revocation the one before is the newest again, if that is not revoked.
static tob_error find_newest(tob_registry *registry, const char *type, const char *subject) {
    static const char find[] =
        "UPDATE certificates SET newest = 1 WHERE serial = (SELECT serial FROM certificates WHERE "
        "subject = $1 AND type = $2 AND revoked_unix_ms IS NULL ORDER BY change DESC, serial LIMIT 1)";
    const tob_sql_value of[] = {tob_sql_text(subject), tob_sql_text(type)};
    return run(registry, find, of, 2, NULL);
}

// TOB_NOT_FOUND when there is none that is not revoked.
static tob_error revoke(tob_registry *registry, const char *serial, const char *reason, subject_of *ret) {
    static const char statement[] =
        "UPDATE certificates SET revoked_unix_ms = $1, reason = $2, change = $3, newest = 0 "
        "WHERE serial = $4 AND revoked_unix_ms IS NULL RETURNING type, subject";
    uint64_t count = 0;
    const tob_sql_value values[] = {tob_sql_integer(tob_registry_now(registry)), tob_sql_text(reason),
                                    tob_sql_integer(tob_registry_change(registry)), tob_sql_text(serial)};
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, values, 4, take_subject, ret, &count);
    if (!err && count == 0) {
        err = TOB_NOT_FOUND;
    }
    if (!err) {
        err = audit(registry, "certificate.revoke", serial, ret->type, ret->subject, reason);
    }
    return err;
}

tob_error tob_registry_revoke_certificate(tob_registry *registry, const char *serial, const char *reason) {
    static const char exists[] = "SELECT type, subject FROM certificates WHERE serial = $1";
    const tob_sql_value of = tob_sql_text(serial);
    subject_of subject = {"", ""};
    uint64_t count = 0;
    tob_error err = revoke(registry, serial, reason, &subject);
    if (!err) {
        return find_newest(registry, subject.type, subject.subject);
    }
    if (err == TOB_NOT_FOUND) {
        err = tob_sql_run(tob_registry_sql(registry), exists, &of, 1, take_subject, &subject, &count);
        if (!err && count == 0) {
            err = TOB_NOT_FOUND;
        }
    }
    return err;
}

typedef struct serials {
    char text[ROUND][MAX_SERIAL_BYTES];
    size_t count;
} serials;

static tob_error take_serial(void *user, const tob_sql_row *row) {
    serials *s = user;
    if (s->count == ROUND) {
        return TOB_TOO_LARGE;
    }
    snprintf(s->text[s->count++], MAX_SERIAL_BYTES, "%s", tob_sql_row_text(row, 0));
    return TOB_OK;
}

tob_error tob_registry_revoke_certificates_of(tob_registry *registry, const char *type, const char *subject,
                                              const char *reason, uint32_t *ret_count) {
    static const char find[] = "SELECT serial FROM certificates WHERE subject = $1 AND type = $2 AND "
                               "revoked_unix_ms IS NULL ORDER BY serial LIMIT $3";
    const tob_sql_value of[] = {tob_sql_text(subject), tob_sql_text(type), tob_sql_integer(ROUND)};
    serials found;
    uint32_t count = 0;
    do {
        found.count = 0;
        tob_error err = tob_sql_run(tob_registry_sql(registry), find, of, 3, take_serial, &found, NULL);
        for (size_t i = 0; i < found.count && !err; i++, count++) {
            subject_of ignored;
            err = revoke(registry, found.text[i], reason, &ignored);
        }
        if (err) {
            return err;
        }
    } while (found.count == ROUND);
    *ret_count = count;
    return TOB_OK;
}

tob_error tob_registry_erase_certificates_of(tob_registry *registry, const char *type, const char *subject,
                                             uint32_t *ret_count) {
    static const char statement[] =
        "UPDATE certificates SET subject = '', fingerprint = '', pem = '', newest = 0, "
        "reason = CASE WHEN revoked_unix_ms IS NULL THEN 'cessation_of_operation' ELSE reason END, "
        "revoked_unix_ms = coalesce(revoked_unix_ms, $1), change = $2 WHERE subject = $3 AND type = $4";
    const tob_sql_value of[] = {tob_sql_integer(tob_registry_now(registry)),
                                tob_sql_integer(tob_registry_change(registry)), tob_sql_text(subject),
                                tob_sql_text(type)};
    uint64_t count = 0;
    tob_error err = run(registry, statement, of, 4, &count);
    if (!err && count) {
        char detail[64];
        snprintf(detail, sizeof(detail), "%llu of type %s", (unsigned long long)count, type);
        err = tob_registry_audit(registry, "certificate.erase", subject, detail);
    }
    if (err) {
        return err;
    }
    *ret_count = (uint32_t)count;
    return TOB_OK;
}

typedef struct reading {
    tob_registry_certificate_fn fn;
    void *user;
} reading;

static tob_error read_certificate(void *user, const tob_sql_row *row) {
    const reading *r = user;
    const tob_registry_certificate c = {.serial = tob_sql_row_text(row, 0),
                                        .type = tob_sql_row_text(row, 1),
                                        .subject = tob_sql_row_text(row, 2),
                                        .not_before_unix_s = tob_sql_row_integer(row, 3),
                                        .not_after_unix_s = tob_sql_row_integer(row, 4),
                                        .revoked_unix_ms = tob_sql_row_integer(row, 5),
                                        .reason = tob_sql_row_text(row, 6),
                                        .fingerprint = tob_sql_row_text(row, 7),
                                        .pem = tob_sql_row_text(row, 8)};
    return r->fn(r->user, &c);
}

tob_error tob_registry_list_certificates(tob_registry *registry, const char *subject, const char *after,
                                         uint32_t max, tob_registry_certificate_fn fn, void *user) {
    static const char all[] =
        "SELECT " COLUMNS " FROM certificates WHERE serial > $1 ORDER BY serial LIMIT $2";
    static const char some[] =
        "SELECT " COLUMNS " FROM certificates WHERE subject = $1 AND serial > $2 ORDER BY serial LIMIT $3";
    reading r = {fn, user};
    tob_sql *sql = tob_registry_sql(registry);
    const tob_sql_value values[] = {tob_sql_text(subject), tob_sql_text(after), tob_sql_integer(max)};
    return *subject ? tob_sql_run(sql, some, values, 3, read_certificate, &r, NULL)
                    : tob_sql_run(sql, all, values + 1, 2, read_certificate, &r, NULL);
}

tob_error tob_registry_get_certificate(tob_registry *registry, const char *serial,
                                       tob_registry_certificate_fn fn, void *user) {
    static const char statement[] = "SELECT " COLUMNS " FROM certificates WHERE serial = $1";
    reading r = {fn, user};
    const tob_sql_value of = tob_sql_text(serial);
    uint64_t count = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, &of, 1, read_certificate, &r, &count);
    return err ? err : count ? TOB_OK : TOB_NOT_FOUND;
}

tob_error tob_registry_revoked_certificates(tob_registry *registry, uint64_t until_unix_s,
                                            tob_registry_certificate_fn fn, void *user) {
    static const char statement[] =
        "SELECT " COLUMNS " FROM certificates WHERE revoked_unix_ms IS NOT NULL AND not_after_unix_s >= $1 "
        "ORDER BY not_after_unix_s, serial";
    reading r = {fn, user};
    const tob_sql_value until = tob_sql_integer(until_unix_s);
    return tob_sql_run(tob_registry_sql(registry), statement, &until, 1, read_certificate, &r, NULL);
}

static tob_error take_number(void *user, const tob_sql_row *row) {
    *(uint64_t *)user = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

tob_error tob_registry_certificates_change(tob_registry *registry, uint64_t *ret) {
    static const char statement[] = "SELECT max(change) FROM certificates";
    uint64_t change = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, NULL, 0, take_number, &change, NULL);
    if (!err) {
        *ret = change;
    }
    return err;
}

typedef struct expiry_reading {
    tob_registry_expiry_fn fn;
    void *user;
    const char *type;
} expiry_reading;

static tob_error read_expiry(void *user, const tob_sql_row *row) {
    const expiry_reading *r = user;
    return r->fn(r->user, r->type, tob_sql_row_integer(row, 0));
}

#define SOONEST(type)                                                                                        \
    "SELECT c.not_after_unix_s FROM certificates AS c WHERE c.type = '" type "' AND c.newest = 1"
#define FIRST " ORDER BY c.not_after_unix_s LIMIT 1"

tob_error tob_registry_certificate_expiries(tob_registry *registry, tob_registry_expiry_fn fn, void *user) {
    static const struct {
        const char *type, *statement;
    } of[] = {
        {"client", SOONEST("client") " AND EXISTS (SELECT 1 FROM clients WHERE id = c.subject)" FIRST},
        {"headend", SOONEST("headend") " AND (EXISTS (SELECT 1 FROM headends WHERE id = c.subject) OR "
                                       "EXISTS (SELECT 1 FROM clusters WHERE id = c.subject))" FIRST},
        {"server", SOONEST("server") FIRST},
    };
    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        expiry_reading r = {fn, user, of[i].type};
        tob_error err =
            tob_sql_run(tob_registry_sql(registry), of[i].statement, NULL, 0, read_expiry, &r, NULL);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

typedef struct authority_reading {
    tob_registry_authority_fn fn;
    void *user;
} authority_reading;

static tob_error read_authority(void *user, const tob_sql_row *row) {
    const authority_reading *r = user;
    return r->fn(r->user, tob_sql_row_text(row, 0), tob_sql_row_text(row, 1));
}

tob_error tob_registry_get_authority(tob_registry *registry, tob_registry_authority_fn fn, void *user) {
    static const char statement[] = "SELECT certificate_pem, key_pem FROM authority WHERE id = 1";
    authority_reading r = {fn, user};
    uint64_t count = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, NULL, 0, read_authority, &r, &count);
    return err ? err : count ? TOB_OK : TOB_NOT_FOUND;
}

tob_error tob_registry_set_authority(tob_registry *registry, const char *certificate_pem,
                                     const char *key_pem) {
    static const char statement[] =
        "INSERT INTO authority (id, certificate_pem, key_pem, created_unix_ms) VALUES (1, $1, $2, $3)";
    const tob_sql_value values[] = {tob_sql_text(certificate_pem), tob_sql_text(key_pem),
                                    tob_sql_integer(tob_registry_now(registry))};
    tob_error err = run(registry, statement, values, 3, NULL);
    return err ? err : tob_registry_audit(registry, "authority.make", "ca", "");
}
