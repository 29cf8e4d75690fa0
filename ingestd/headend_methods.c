#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/registry_fields.h"
#include "ingestd/registry_kind.h"
#include "ingestd/registry_rows.h"
#include "util/clock.h"
#include "util/log.h"

#define NO_SUCH "headend_id", "headend"

static const char *id_of(const ProtobufCMessage *message) {
    return ((const Tobogganing__V1__HeadendId *)message)->headend_id;
}

static tob_error read_row(tob_registry_call *call, const char *id, const ProtobufCMessage **ret) {
    Tobogganing__V1__Headend *headend = NULL;
    tob_error err = tob_read_headend(call, id, &headend);
    *ret = err ? *ret : &headend->base;
    return err;
}

static const tob_registry_kind kind = {NO_SUCH, read_row};

// ---- adding

static tob_error see_deletion(void *user, const tob_registry_deletion *deletion) {
    (void)user, (void)deletion; // that there is one is all we want to know
    return TOB_OK;
}

// Adds it. Tokens of one that had the id before, and was deleted, stay refused.
static tob_error add_row(tob_registry *registry, const tob_registry_headend *headend) {
    tob_error deleted = tob_registry_get_deletion(registry, "headend", headend->id, see_deletion, NULL);
    if (deleted && deleted != TOB_NOT_FOUND) {
        return deleted;
    }
    tob_error err = tob_registry_add_headend(registry, headend);
    if (err || deleted == TOB_NOT_FOUND) {
        return err;
    }
    return tob_registry_revoke_headend_tokens(registry, headend->id, headend->created_unix_ms / 1000 + 1);
}

// Everything inside the change. False: answered.
static bool carry_out_addition(tob_registry_call *call, const Tobogganing__V1__AddHeadendRequest *request,
                               const tob_registry_headend *headend,
                               Tobogganing__V1__AddHeadendResponse *response) {
    if (!tob_registry_call_begin(call)) {
        return false;
    }
    tob_error err = add_row(call->service->registry, headend);
    if (!err) {
        err = tob_read_headend(call, headend->id, &response->headend);
    }
    if (!err && request->certificate &&
        !tob_registry_call_issue(call, "headend", headend->id, NULL, 0, request->certificate,
                                 response->certificate)) {
        return false;
    }
    return tob_kind_end(call, &kind, err);
}

static void add_headend(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddHeadendRequest *request = (const Tobogganing__V1__AddHeadendRequest *)message;
    Tobogganing__V1__AddHeadendResponse response = TOBOGGANING__V1__ADD_HEADEND_RESPONSE__INIT;
    Tobogganing__V1__IssuedCertificate certificate = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;
    char made[TOB_MAX_ID_BYTES + 1];
    if (!tob_field_optional_id(call->call, "headend_id", request->headend_id) ||
        !tob_field_name(call->call, "name", request->name) ||
        !tob_field_optional_id(call->call, "cluster_id", request->cluster_id)) {
        return;
    }
    tob_make_id("h-", made);
    tob_registry_headend headend = {.id = *request->headend_id ? request->headend_id : made,
                                    .cluster_id = request->cluster_id,
                                    .created_unix_ms = tob_clock_unix_ms()};
    headend.name = *request->name ? request->name : headend.id;
    response.certificate = request->certificate ? &certificate : NULL;
    if (!carry_out_addition(call, request, &headend, &response)) {
        return;
    }
    if (request->certificate) {
        tob_registry_count_issued(call, "headend");
    }
    tob_info("headend_added", TOB_STR("headend_id", headend.id), TOB_STR("cluster_id", headend.cluster_id));
    tob_rpc_reply(call->call, &response.base);
}

// ---- reading

static void get_headend(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_get(call, &kind, id_of(message));
}

static void list_headends(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    tob_rows rows;
    if (!tob_rows_begin(call, request, &rows)) {
        return;
    }
    tob_error err = tob_registry_list_headends(call->service->registry, request->page,
                                               (uint32_t)rows.page.max + 1, tob_rows_headend, &rows);
    if (!tob_registry_page_end(call, err)) {
        return;
    }
    Tobogganing__V1__ListHeadendsResponse response = TOBOGGANING__V1__LIST_HEADENDS_RESPONSE__INIT;
    response.headends = (Tobogganing__V1__Headend **)rows.page.rows;
    response.n_headends = rows.page.count;
    if (rows.page.more) {
        response.next_page = response.headends[rows.page.count - 1]->headend_id;
    }
    tob_rpc_reply(call->call, &response.base);
}

// ---- changing

static const char *const changeable[] = {"name", "cluster_id", NULL};

static bool check_update(tob_registry_call *call, const Tobogganing__V1__UpdateHeadendRequest *request,
                         uint32_t *ret_mask) {
    uint32_t mask = 0;
    if (!tob_field_id(call->call, "headend_id", request->headend_id) ||
        !tob_field_mask(call->call, request->update_mask, request->n_update_mask, changeable, &mask) ||
        ((mask & 1) && !tob_field_name(call->call, "name", request->name)) ||
        ((mask & 2) && !tob_field_optional_id(call->call, "cluster_id", request->cluster_id))) {
        return false;
    }
    *ret_mask = mask;
    return true;
}

static void update_headend(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__UpdateHeadendRequest *request =
        (const Tobogganing__V1__UpdateHeadendRequest *)message;
    Tobogganing__V1__Headend *now = NULL;
    uint32_t mask = 0;
    if (!check_update(call, request, &mask) || !tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_read_headend(call, request->headend_id, &now);
    if (err) {
        (void)!tob_registry_call_end(call, err, NO_SUCH);
        return;
    }
    const char *name = *request->name ? request->name : request->headend_id;
    tob_registry_headend headend = {.id = request->headend_id,
                                    .name = mask & 1 ? name : now->name,
                                    .cluster_id = mask & 2 ? request->cluster_id : now->cluster_id};
    err = tob_registry_update_headend(call->service->registry, &headend);
    tob_kind_end_update(call, &kind, request->headend_id, err, "headend_updated");
}

static void revoke_headend(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_act(call, &kind, id_of(message), tob_registry_revoke_headend, "headend_revoked");
}

static void delete_headend(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_delete(call, &kind, id_of(message), tob_registry_delete_headend, "headend_deleted",
                    TOB_SOURCE_HEADEND);
}

// ---- tokens

// What decides about a headend's tokens.
typedef struct standing {
    bool revoked;
    bool cluster_revoked;
    uint64_t tokens_not_before_unix_s;
} standing;

static tob_error see_standing(void *user, const tob_registry_headend *headend) {
    *(standing *)user = (standing){.revoked = headend->revoked_unix_ms != 0,
                                   .cluster_revoked = headend->cluster_revoked,
                                   .tokens_not_before_unix_s = headend->tokens_not_before_unix_s};
    return TOB_OK;
}

// Tokens are told apart by the second in which they were issued. So those that are revoked are all up to the last second for
// which one may have been issued, and what is issued in the same second is dated into the next.
static tob_error revoke_tokens(tob_registry *registry, const char *id) {
    standing before = {.revoked = false};
    tob_error err = tob_registry_get_headend(registry, id, see_standing, &before);
    if (err) {
        return err;
    }
    uint64_t now_s = tob_clock_unix_ms() / 1000;
    uint64_t last_s = before.tokens_not_before_unix_s > now_s ? before.tokens_not_before_unix_s : now_s;
    return tob_registry_revoke_headend_tokens(registry, id, last_s + 1);
}

static void revoke_headend_tokens(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_act(call, &kind, id_of(message), revoke_tokens, "headend_tokens_revoked");
}

typedef struct issue {
    uint64_t iat_unix_s;
    uint64_t ttl_s;
    char kid[TOB_JWT_KID_BYTES];
    char *token;
} issue;

// Inside the change. False: answered.
static bool sign(tob_registry_call *call, const char *id, issue *to) {
    standing now = {.revoked = false};
    tob_error err = tob_registry_get_headend(call->service->registry, id, see_standing, &now);
    if (err) {
        return tob_registry_call_end(call, err, NO_SUCH);
    }
    if (now.revoked || now.cluster_revoked) {
        tob_registry_call_refuse(call, TOB_PRECONDITION, "headend_id: %s is revoked",
                                 now.revoked ? "the headend" : "its cluster");
        return false;
    }
    uint64_t now_s = tob_clock_unix_ms() / 1000;
    to->iat_unix_s = now.tokens_not_before_unix_s > now_s ? now.tokens_not_before_unix_s : now_s;
    err = tob_jwt_sign(call->service->jwt, id, to->iat_unix_s, to->ttl_s, &to->token, to->kid);
    if (err) {
        tob_err("signing_failed", TOB_ERR(err));
        tob_registry_call_refuse(call, err, "the token can't be signed: %s", tob_error_string(err));
    }
    return !err;
}

static void issue_headend_token(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__IssueHeadendTokenRequest *request =
        (const Tobogganing__V1__IssueHeadendTokenRequest *)message;
    Tobogganing__V1__IssueHeadendTokenResponse response = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_RESPONSE__INIT;
    issue made = {.ttl_s = request->ttl_s ? request->ttl_s : TOB_REGISTRY_DEFAULT_TTL_S};
    const char *id = request->headend_id;
    char detail[TOB_JWT_KID_BYTES + 64];
    if (!tob_field_id(call->call, "headend_id", id) ||
        !tob_field_at_most(call->call, "ttl_s", made.ttl_s, TOB_REGISTRY_MAX_TTL_S) ||
        !tob_registry_call_begin(call) || !sign(call, id, &made)) {
        return;
    }
    snprintf(detail, sizeof(detail), "ttl_s %" PRIu64 ", kid %s", made.ttl_s, made.kid);
    tob_error err = tob_registry_audit(call->service->registry, "headend.issue_token", id, detail);
    if (tob_registry_call_end(call, err, NO_SUCH)) {
        tob_info("headend_token_issued", TOB_STR("headend_id", id), TOB_UINT("ttl_s", made.ttl_s),
                 TOB_STR("kid", made.kid));
        response.token = made.token;
        response.expires_unix_s = made.iat_unix_s + made.ttl_s;
        response.kid = made.kid;
        tob_rpc_reply(call->call, &response.base);
    }
    OPENSSL_cleanse(made.token, strlen(made.token));
    free(made.token);
}

const tob_registry_method tob_headend_methods[] = {
    {"AddHeadend", TOB_ACCESS_ADMIN, add_headend},
    {"GetHeadend", TOB_ACCESS_ADMIN, get_headend},
    {"ListHeadends", TOB_ACCESS_ADMIN, list_headends},
    {"UpdateHeadend", TOB_ACCESS_ADMIN, update_headend},
    {"RevokeHeadend", TOB_ACCESS_ADMIN, revoke_headend},
    {"DeleteHeadend", TOB_ACCESS_ADMIN, delete_headend},
    {"IssueHeadendToken", TOB_ACCESS_ADMIN, issue_headend_token},
    {"RevokeHeadendTokens", TOB_ACCESS_ADMIN, revoke_headend_tokens},
    {.name = NULL},
};
