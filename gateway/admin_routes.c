#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/signing_keys.pb-c.h"

#include "gateway/admin.h"
#include "gateway/admin_answers.h"

#define CLUSTERS     "/api/v1/clusters"
#define CLIENTS      "/api/v1/clients"
#define HEADENDS     "/api/v1/headends"
#define CERTS        "/api/v1/certs"

#define PEM          "application/x-pem-file"
#define GRACE_S      86400 // for a client that rotates its key and says nothing

#define REGISTRY     &tobogganing__v1__registry__descriptor
#define CERTIFICATES &tobogganing__v1__certificates__descriptor
#define SIGNING_KEYS &tobogganing__v1__signing_keys__descriptor

#define PATH(name_)                                                                                          \
    { .from = TOB_ADMIN_FROM_PATH, .name = (name_) }
#define QUERY(name_)                                                                                         \
    { .from = TOB_ADMIN_FROM_QUERY, .name = (name_) }
#define BODY(name_)                                                                                          \
    { .from = TOB_ADMIN_FROM_BODY, .name = (name_) }
#define REQUIRED(name_)                                                                                      \
    { .from = TOB_ADMIN_FROM_BODY, .name = (name_), .required = true }
#define BODY_TO(name_, to_)                                                                                  \
    { .from = TOB_ADMIN_FROM_BODY, .name = (name_), .to = (to_) }
#define ALWAYS(to_)                                                                                          \
    { .from = TOB_ADMIN_ALWAYS, .name = (to_) }
#define END                                                                                                  \
    { .name = NULL }

// A call that changes something, one that does so only once however often it is made, one that reads, and one that anyone may
// make.
#define CHANGE(method_, pattern_, service_, call_, fields_, render_)                                         \
    {                                                                                                        \
        .method = (method_), .pattern = (pattern_), .service = (service_), .call = (call_),                  \
        .fields = (fields_), .render = (render_)                                                             \
    }
#define REPEATABLE(pattern_, service_, call_, fields_, render_)                                              \
    {                                                                                                        \
        .method = "POST", .pattern = (pattern_), .service = (service_), .call = (call_),                     \
        .fields = (fields_), .render = (render_), .repeatable = true                                         \
    }
#define READ(pattern_, service_, call_, fields_)                                                             \
    {                                                                                                        \
        .method = "GET", .pattern = (pattern_), .service = (service_), .call = (call_), .fields = (fields_), \
        .repeatable = true                                                                                   \
    }
#define PUBLIC(pattern_, service_, call_, raw_, content_type_, kept_)                                        \
    {                                                                                                        \
        .method = "GET", .pattern = (pattern_), .service = (service_), .call = (call_), .raw = (raw_),       \
        .content_type = (content_type_), .kept = (kept_), .repeatable = true                                 \
    }

// Where somebody is, as older clients say it.
static const char *const place_members[] = {"datacenter", "region", NULL};

static const tob_admin_field page_fields[] = {QUERY("page"), QUERY("page_size"), END};
static const tob_admin_field audit_fields[] = {QUERY("target"), QUERY("page"), QUERY("page_size"), END};
static const tob_admin_field cert_list_fields[] = {QUERY("subject"), QUERY("page"), QUERY("page_size"), END};

static const tob_admin_field cluster_id[] = {PATH("cluster_id"), END};
static const tob_admin_field client_id[] = {PATH("client_id"), END};
static const tob_admin_field headend_id[] = {PATH("headend_id"), END};
static const tob_admin_field serial[] = {PATH("serial"), END};

static const tob_admin_field cluster_register_fields[] = {
    REQUIRED("name"),
    REQUIRED("region"),
    REQUIRED("datacenter"),
    REQUIRED("headend_url"),
    BODY("cluster_id"),
    ALWAYS("certificate"),
    BODY_TO("csr", "certificate.csr"),
    BODY_TO("validity_days", "certificate.validity_days"),
    END,
};

static const tob_admin_field heartbeat_fields[] = {PATH("cluster_id"), REQUIRED("client_count"), END};

static const tob_admin_field client_register_fields[] = {
    REQUIRED("name"),
    REQUIRED("type"),
    REQUIRED("public_key"),
    {.from = TOB_ADMIN_FROM_BODY, .name = "location", .members = place_members},
    BODY("client_id"),
    BODY("cluster_id"),
    ALWAYS("place"),
    ALWAYS("certificate"),
    BODY_TO("csr", "certificate.csr"),
    BODY_TO("validity_days", "certificate.validity_days"),
    END,
};

static const tob_admin_field rotate_fields[] = {
    PATH("client_id"),
    {.from = TOB_ADMIN_FROM_BODY, .name = "grace_seconds", .to = "grace_s", .fallback = GRACE_S},
    END,
};

static const tob_admin_field headend_register_fields[] = {
    REQUIRED("name"),
    REQUIRED("cluster_id"),
    BODY("headend_id"),
    ALWAYS("certificate"),
    BODY_TO("csr", "certificate.csr"),
    BODY_TO("validity_days", "certificate.validity_days"),
    END,
};

static const tob_admin_field token_fields[] = {PATH("headend_id"), BODY_TO("ttl_seconds", "ttl_s"), END};

static const tob_admin_field cert_generate_fields[] = {
    REQUIRED("type"),
    REQUIRED("subject"),
    BODY("names"),
    ALWAYS("order"),
    BODY_TO("csr", "order.csr"),
    BODY_TO("validity_days", "order.validity_days"),
    END,
};

static const tob_admin_field cert_revoke_fields[] = {PATH("serial"), BODY("reason"), END};

// Fixed segments come before parameters: the first route that matches counts.
const tob_admin_route tob_admin_routes[] = {
    CHANGE("POST", CLUSTERS "/register", REGISTRY, "AddCluster", cluster_register_fields,
           tob_answer_cluster_registered),
    READ(CLUSTERS, REGISTRY, "ListClusters", page_fields),
    READ(CLUSTERS "/{cluster_id}", REGISTRY, "GetCluster", cluster_id),
    CHANGE("DELETE", CLUSTERS "/{cluster_id}", REGISTRY, "DeleteCluster", cluster_id,
           tob_answer_cluster_deleted),
    REPEATABLE(CLUSTERS "/{cluster_id}/heartbeat", REGISTRY, "HeartbeatCluster", heartbeat_fields,
               tob_answer_cluster_status),
    REPEATABLE(CLUSTERS "/{cluster_id}/revoke", REGISTRY, "RevokeCluster", cluster_id, NULL),

    CHANGE("POST", CLIENTS "/register", REGISTRY, "AddClient", client_register_fields,
           tob_answer_client_registered),
    READ(CLIENTS, REGISTRY, "ListClients", page_fields),
    READ(CLIENTS "/{client_id}", REGISTRY, "GetClient", client_id),
    CHANGE("DELETE", CLIENTS "/{client_id}", REGISTRY, "DeleteClient", client_id, tob_answer_client_deleted),
    CHANGE("POST", CLIENTS "/{client_id}/rotate-key", REGISTRY, "RotateClientKey", rotate_fields,
           tob_answer_key_rotated),
    REPEATABLE(CLIENTS "/{client_id}/revoke", REGISTRY, "RevokeClient", client_id, NULL),

    CHANGE("POST", HEADENDS "/register", REGISTRY, "AddHeadend", headend_register_fields,
           tob_answer_headend_registered),
    READ(HEADENDS, REGISTRY, "ListHeadends", page_fields),
    READ(HEADENDS "/{headend_id}", REGISTRY, "GetHeadend", headend_id),
    CHANGE("DELETE", HEADENDS "/{headend_id}", REGISTRY, "DeleteHeadend", headend_id,
           tob_answer_headend_deleted),
    REPEATABLE(HEADENDS "/{headend_id}/revoke", REGISTRY, "RevokeHeadend", headend_id, NULL),
    CHANGE("POST", HEADENDS "/{headend_id}/token", REGISTRY, "IssueHeadendToken", token_fields,
           tob_answer_headend_token),

    CHANGE("POST", CERTS "/generate", CERTIFICATES, "Issue", cert_generate_fields,
           tob_answer_certificate_issued),
    READ(CERTS, CERTIFICATES, "List", cert_list_fields),
    PUBLIC(CERTS "/ca.pem", CERTIFICATES, "GetAuthority", tob_answer_authority_pem, PEM, 0),
    PUBLIC(CERTS "/crl", CERTIFICATES, "GetRevocationList", tob_answer_crl_der, "application/pkix-crl", 1),
    PUBLIC(CERTS "/crl.pem", CERTIFICATES, "GetRevocationList", tob_answer_crl_pem, PEM, 2),
    READ(CERTS "/{serial}", CERTIFICATES, "Get", serial),
    REPEATABLE(CERTS "/{serial}/revoke", CERTIFICATES, "Revoke", cert_revoke_fields, NULL),

    READ("/api/v1/audit", REGISTRY, "ListAudit", audit_fields),
    PUBLIC("/.well-known/jwks.json", SIGNING_KEYS, "GetJwks", tob_answer_jwks, "application/json", 3),
};
const size_t tob_admin_route_count = sizeof(tob_admin_routes) / sizeof(tob_admin_routes[0]);
