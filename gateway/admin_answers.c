#include "gateway/admin_answers.h"

#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/signing_keys.pb-c.h"

#include "report/message_json.h"

static const char *text_or_null(const char *text) {
    return text && *text ? text : NULL;
}

// {key, cert, ca}; no key when the caller has it (it came with a CSR).
static json_t *certificates_json(const Tobogganing__V1__IssuedCertificate *issued) {
    if (!issued || !issued->certificate) {
        return json_null();
    }
    return json_pack("{s:s*, s:s, s:s}", "key", text_or_null(issued->key), "cert", issued->certificate->pem,
                     "ca", issued->ca);
}

json_t *tob_answer_cluster_registered(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__AddClusterResponse *added = (const Tobogganing__V1__AddClusterResponse *)response;
    (void)id;
    return json_pack("{s:s, s:s, s:o}", "cluster_id", added->cluster->cluster_id, "status",
                     added->cluster->status, "certificates", certificates_json(added->certificate));
}

json_t *tob_answer_cluster_status(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__Cluster *cluster = (const Tobogganing__V1__Cluster *)response;
    (void)id;
    return json_pack("{s:s, s:s}", "cluster_id", cluster->cluster_id, "status", cluster->status);
}

json_t *tob_answer_client_registered(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__AddClientResponse *added = (const Tobogganing__V1__AddClientResponse *)response;
    const Tobogganing__V1__Cluster *cluster = added->cluster;
    (void)id;
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "client_id", added->client->client_id, "api_key",
                     added->api_key, "cluster", "id", cluster ? cluster->cluster_id : "", "headend_url",
                     cluster ? cluster->headend_url : "", "certificates",
                     certificates_json(added->certificate));
}

json_t *tob_answer_key_rotated(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__RotateClientKeyResponse *rotated =
        (const Tobogganing__V1__RotateClientKeyResponse *)response;
    (void)id;
    return json_pack("{s:s, s:s, s:o}", "client_id", rotated->client->client_id, "new_api_key",
                     rotated->api_key, "previous_key_expires",
                     tob_time_json(rotated->client->previous_key_expires_unix_ms));
}

json_t *tob_answer_headend_registered(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__AddHeadendResponse *added = (const Tobogganing__V1__AddHeadendResponse *)response;
    (void)id;
    return json_pack("{s:s, s:s, s:o}", "headend_id", added->headend->headend_id, "cluster_id",
                     added->headend->cluster_id, "certificates", certificates_json(added->certificate));
}

json_t *tob_answer_headend_token(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__IssueHeadendTokenResponse *issued =
        (const Tobogganing__V1__IssueHeadendTokenResponse *)response;
    return json_pack("{s:s, s:s, s:o, s:s}", "headend_id", id, "token", issued->token, "expires",
                     tob_time_json(issued->expires_unix_s * 1000), "kid", issued->kid);
}

json_t *tob_answer_certificate_issued(const ProtobufCMessage *response, const char *id) {
    const Tobogganing__V1__IssuedCertificate *issued = (const Tobogganing__V1__IssuedCertificate *)response;
    const Tobogganing__V1__Certificate *certificate = issued->certificate;
    (void)id;
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:s*, s:s}", "serial", certificate->serial, "type",
                     certificate->type, "subject", certificate->subject, "not_after",
                     tob_time_json(certificate->not_after_unix_s * 1000), "certificate", certificate->pem,
                     "key", text_or_null(issued->key), "ca", issued->ca);
}

static json_t *deleted(const char *name, const char *id) {
    return json_pack("{s:s, s:s}", name, id, "status", "deleted");
}

json_t *tob_answer_cluster_deleted(const ProtobufCMessage *response, const char *id) {
    (void)response;
    return deleted("cluster_id", id);
}

json_t *tob_answer_client_deleted(const ProtobufCMessage *response, const char *id) {
    (void)response;
    return deleted("client_id", id);
}

json_t *tob_answer_headend_deleted(const ProtobufCMessage *response, const char *id) {
    (void)response;
    return deleted("headend_id", id);
}

h2o_iovec_t tob_answer_authority_pem(const ProtobufCMessage *response) {
    const char *pem = ((const Tobogganing__V1__Authority *)response)->pem;
    return h2o_iovec_init(pem, strlen(pem));
}

h2o_iovec_t tob_answer_crl_der(const ProtobufCMessage *response) {
    const ProtobufCBinaryData *der = &((const Tobogganing__V1__RevocationList *)response)->der;
    return h2o_iovec_init(der->data, der->len);
}

h2o_iovec_t tob_answer_crl_pem(const ProtobufCMessage *response) {
    const char *pem = ((const Tobogganing__V1__RevocationList *)response)->pem;
    return h2o_iovec_init(pem, strlen(pem));
}

h2o_iovec_t tob_answer_jwks(const ProtobufCMessage *response) {
    const char *json = ((const Tobogganing__V1__Jwks *)response)->json;
    return h2o_iovec_init(json, strlen(json));
}
