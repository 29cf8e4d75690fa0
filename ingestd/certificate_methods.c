#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"
#include "ingestd/registry_fields.h"
#include "ingestd/registry_headends.h"
#include "ingestd/registry_methods.h"
#include "ingestd/revocations.h"
#include "util/clock.h"
#include "util/log.h"

#define ID_FIELD "serial"
#define WHAT     "certificate"

// ---- rows

typedef struct rows {
    tob_registry_page page;
    bool with_pem;
} rows;

static tob_error take_row(void *user, const tob_registry_certificate *certificate) {
    rows *to = user;
    void *row = NULL;
    size_t bytes = strlen(certificate->serial) + strlen(certificate->subject) +
                   strlen(certificate->fingerprint) + strlen(certificate->reason);
    tob_error err = tob_registry_page_row(&to->page, &tobogganing__v1__certificate__descriptor, bytes, &row);
    if (err) {
        return err;
    }
    Tobogganing__V1__Certificate *c = row;
    c->serial = tob_registry_text(to->page.arena, certificate->serial);
    c->type = tob_registry_text(to->page.arena, certificate->type);
    c->subject = tob_registry_text(to->page.arena, certificate->subject);
    c->reason = tob_registry_text(to->page.arena, certificate->reason);
    c->fingerprint = tob_registry_text(to->page.arena, certificate->fingerprint);
    c->not_before_unix_s = certificate->not_before_unix_s;
    c->not_after_unix_s = certificate->not_after_unix_s;
    c->revoked_unix_ms = certificate->revoked_unix_ms;
    if (to->with_pem) {
        c->pem = tob_registry_text(to->page.arena, certificate->pem);
    }
    return tob_arena_error(to->page.arena);
}

// The one row with this serial, also inside a change. TOB_NOT_FOUND.
static tob_error read_one(tob_registry_call *call, const char *serial, Tobogganing__V1__Certificate **ret) {
    void *room = NULL;
    rows one = {.page = {.arena = call->arena, .rows = &room, .max = 1}, .with_pem = true};
    tob_error err = tob_registry_get_certificate(call->service->registry, serial, take_row, &one);
    if (!err) {
        *ret = room;
    }
    return err;
}

// ---- issuing

// False: answered.
static bool sign(tob_registry_call *call, const tob_ca_order *order, tob_ca_issued *ret) {
    tob_ca_problem problem;
    tob_error err = tob_ca_issue(call->service->ca, order, tob_clock_unix_ms() / 1000, ret, &problem);
    if (!err) {
        return true;
    }
    if (err == TOB_INTERNAL) {
        tob_err("certificate_failed", TOB_ERR(err), TOB_STR("problem", problem.text));
    }
    tob_registry_call_refuse(call, err, "%s", problem.text);
    return false;
}

static tob_error add_row(tob_registry *registry, const tob_ca_order *order, const tob_ca_issued *issued) {
    const tob_registry_certificate row = {.serial = issued->serial,
                                          .type = order->type,
                                          .subject = order->subject,
                                          .not_before_unix_s = issued->not_before_unix_s,
                                          .not_after_unix_s = issued->not_after_unix_s,
                                          .reason = "",
                                          .fingerprint = issued->fingerprint,
                                          .pem = issued->pem};
    return tob_registry_add_certificate(registry, &row);
}

// Adds the row of what was signed to the open change, and makes the answer in the call's arena.
static tob_error add(tob_registry_call *call, const tob_ca_order *order, const tob_ca_issued *issued,
                     Tobogganing__V1__IssuedCertificate *ret) {
    tob_error err = add_row(call->service->registry, order, issued);
    if (!err) {
        err = read_one(call, issued->serial, &ret->certificate);
    }
    if (err) {
        return err;
    }
    ret->key = tob_arena_strdup(call->arena, issued->key_pem);
    ret->ca = tob_arena_strdup(call->arena, tob_ca_pem(call->service->ca));
    return tob_arena_error(call->arena);
}

bool tob_registry_call_issue(tob_registry_call *call, const char *type, const char *subject,
                             const char *const *names, size_t name_count,
                             const Tobogganing__V1__CertificateOrder *order,
                             Tobogganing__V1__IssuedCertificate *ret) {
    const tob_ca_order wanted = {.type = type,
                                 .subject = subject,
                                 .names = names,
                                 .name_count = name_count,
                                 .name_subject = true,
                                 .csr = order->csr,
                                 .days = order->validity_days};
    tob_ca_issued issued;
    if (!sign(call, &wanted, &issued)) {
        return false;
    }
    tob_error err = add(call, &wanted, &issued, ret);
    tob_ca_issued_fini(&issued);
    return !err || tob_registry_call_end(call, err, ID_FIELD, WHAT);
}

void tob_registry_count_issued(tob_registry_call *call, const char *type) {
    tob_counter_add(tob_process_counter(call->service->process,
                                        TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED,
                                        type, NULL, NULL),
                    1);
}

// Whose certificate it is to be.
typedef struct subject {
    bool revoked;
} subject;

static tob_error see_client(void *user, const tob_registry_client *client) {
    ((subject *)user)->revoked = client->revoked_unix_ms != 0;
    return TOB_OK;
}

static tob_error see_headend(void *user, const tob_registry_headend *headend) {
    ((subject *)user)->revoked = headend->revoked_unix_ms != 0 || headend->cluster_revoked;
    return TOB_OK;
}

static tob_error see_cluster(void *user, const tob_registry_cluster *cluster) {
    ((subject *)user)->revoked = cluster->revoked_unix_ms != 0;
    return TOB_OK;
}

// Clients and headends (or clusters, whose headends share one) have to be registered, inside the change in which the
// certificate is added: nobody can have one for an id that is gone. False: answered.
static bool check_subject(tob_registry_call *call, const char *type, const char *id) {
    tob_registry *registry = call->service->registry;
    subject found = {.revoked = false};
    tob_error err = TOB_OK;
    if (strcmp(type, "client") == 0) {
        err = tob_registry_get_client(registry, id, see_client, &found);
    } else if (strcmp(type, "headend") == 0) {
        err = tob_registry_get_headend(registry, id, see_headend, &found);
        err = err == TOB_NOT_FOUND ? tob_registry_get_cluster(registry, id, see_cluster, &found) : err;
    }
    if (err == TOB_NOT_FOUND) {
        tob_registry_call_refuse(call, TOB_PRECONDITION, "subject: no %s %s is registered", type, id);
        return false;
    }
    if (!err && found.revoked) {
        tob_registry_call_refuse(call, TOB_PRECONDITION, "subject: %s %s is revoked", type, id);
        return false;
    }
    return !err || tob_registry_call_end(call, err, "subject", type);
}

static void issue(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__IssueCertificateRequest *request =
        (const Tobogganing__V1__IssueCertificateRequest *)message;
    const Tobogganing__V1__CertificateOrder *details = request->order;
    const tob_ca_order order = {.type = request->type,
                                .subject = request->subject,
                                .names = (const char *const *)request->names,
                                .name_count = request->n_names,
                                .csr = details ? details->csr : "",
                                .days = details ? details->validity_days : 0};
    Tobogganing__V1__IssuedCertificate response = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;
    tob_ca_issued issued;
    if (!sign(call, &order, &issued)) {
        return;
    }
    if (tob_registry_call_begin(call) && check_subject(call, order.type, order.subject)) {
        tob_error err = add(call, &order, &issued, &response);
        if (tob_registry_call_end(call, err, ID_FIELD, WHAT)) {
            tob_registry_count_issued(call, order.type);
            tob_info("certificate_issued", TOB_STR("serial", issued.serial), TOB_STR("type", order.type),
                     TOB_STR("subject", order.subject));
            tob_rpc_reply(call->call, &response.base);
        }
    }
    tob_ca_issued_fini(&issued);
}

// ---- reading

// A serial as tools print it: in any case. False: it is none, and the call has been answered.
static bool field_serial(tob_rpc_call *call, const char *field, const char *serial,
                         char ret[TOB_CA_SERIAL_BYTES]) {
    size_t len = strlen(serial);
    if (len == 0 || len >= TOB_CA_SERIAL_BYTES || strspn(serial, "0123456789abcdefABCDEF") != len) {
        tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be 1 to %d hexadecimal digits", field,
                     TOB_CA_SERIAL_BYTES - 1);
        return false;
    }
    for (size_t i = 0; i <= len; i++) {
        ret[i] = (char)tolower((unsigned char)serial[i]);
    }
    return true;
}

static void get(tob_registry_call *call, const ProtobufCMessage *message) {
    char serial[TOB_CA_SERIAL_BYTES];
    Tobogganing__V1__Certificate *certificate = NULL;
    if (!field_serial(call->call, ID_FIELD, ((const Tobogganing__V1__CertificateSerial *)message)->serial,
                      serial)) {
        return;
    }
    tob_error err = read_one(call, serial, &certificate);
    if (err) {
        tob_registry_call_fail(call, err, ID_FIELD, WHAT);
        return;
    }
    tob_rpc_reply(call->call, &certificate->base);
}

static void list(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ListCertificatesRequest *request =
        (const Tobogganing__V1__ListCertificatesRequest *)message;
    Tobogganing__V1__ListCertificatesResponse response = TOBOGGANING__V1__LIST_CERTIFICATES_RESPONSE__INIT;
    char after[TOB_CA_SERIAL_BYTES] = "";
    rows found = {.with_pem = false};
    if ((*request->page && !field_serial(call->call, "page", request->page, after)) ||
        !tob_field_optional_id(call->call, "subject", request->subject) ||
        !tob_registry_page_begin(call, request->page_size, &found.page)) {
        return;
    }
    tob_error err = tob_registry_list_certificates(call->service->registry, request->subject, after,
                                                   (uint32_t)found.page.max + 1, take_row, &found);
    if (!tob_registry_page_end(call, err)) {
        return;
    }
    response.certificates = (Tobogganing__V1__Certificate **)found.page.rows;
    response.n_certificates = found.page.count;
    if (found.page.more) {
        response.next_page = response.certificates[response.n_certificates - 1]->serial;
    }
    tob_rpc_reply(call->call, &response.base);
}

// ---- revoking

static void revoke(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__RevokeCertificateRequest *request =
        (const Tobogganing__V1__RevokeCertificateRequest *)message;
    const char *reason = tob_ca_reason(request->reason);
    char serial[TOB_CA_SERIAL_BYTES];
    Tobogganing__V1__Certificate *certificate = NULL;
    if (!field_serial(call->call, ID_FIELD, request->serial, serial)) {
        return;
    }
    if (!reason) {
        tob_rpc_fail(call->call, TOB_INVALID, 0,
                     "reason: must be unspecified, key_compromise, superseded, cessation_of_operation or "
                     "privilege_withdrawn");
        return;
    }
    if (!tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_registry_revoke_certificate(call->service->registry, serial, reason);
    if (!err) {
        err = read_one(call, serial, &certificate);
    }
    if (tob_registry_call_end(call, err, ID_FIELD, WHAT)) {
        tob_info("certificate_revoked", TOB_STR("serial", serial), TOB_STR("type", certificate->type),
                 TOB_STR("subject", certificate->subject));
        tob_rpc_reply(call->call, &certificate->base);
    }
}

// ---- what everybody may have

static void get_authority(tob_registry_call *call, const ProtobufCMessage *message) {
    (void)message; // has no fields
    const tob_ca *ca = call->service->ca;
    Tobogganing__V1__Authority response = TOBOGGANING__V1__AUTHORITY__INIT;
    response.pem = (char *)tob_ca_pem(ca);
    response.subject = (char *)tob_ca_subject(ca);
    response.fingerprint = (char *)tob_ca_fingerprint(ca);
    response.not_after_unix_s = tob_ca_not_after_unix_s(ca);
    tob_rpc_reply(call->call, &response.base);
}

static void get_revocation_list(tob_registry_call *call, const ProtobufCMessage *message) {
    (void)message; // has no fields
    const tob_ca_list *found = NULL;
    tob_ca_problem problem;
    Tobogganing__V1__RevocationList response = TOBOGGANING__V1__REVOCATION_LIST__INIT;
    tob_error err =
        tob_revocations_get(call->service->revocations, tob_clock_unix_ms() / 1000, &found, &problem);
    if (err && *problem.text) {
        tob_err("revocation_list_failed", TOB_ERR(err), TOB_STR("problem", problem.text));
        tob_rpc_fail(call->call, TOB_INTERNAL, 0, "no revocation list: %s", problem.text);
        return;
    }
    if (err) {
        tob_registry_call_fail(call, err, "revocation list", "revocation list");
        return;
    }
    response.der = (ProtobufCBinaryData){.data = found->der, .len = found->der_len};
    response.pem = found->pem;
    response.next_update_unix_s = found->next_update_unix_s;
    tob_rpc_reply(call->call, &response.base);
}

const tob_registry_method tob_certificate_methods[] = {
    {.name = "Issue", .access = TOB_ACCESS_ADMIN, .carry_out = issue},
    {.name = "Get", .access = TOB_ACCESS_ADMIN, .carry_out = get},
    {.name = "List", .access = TOB_ACCESS_ADMIN, .carry_out = list},
    {.name = "Revoke", .access = TOB_ACCESS_ADMIN, .carry_out = revoke},
    {.name = "GetAuthority", .access = TOB_ACCESS_ALL, .carry_out = get_authority},
    {.name = "GetRevocationList", .access = TOB_ACCESS_ALL, .carry_out = get_revocation_list},
    {.name = NULL},
};
