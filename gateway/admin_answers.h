// What the admin routes answer when it is more, or less, than the call's own message.
//
// Threads: any. Each returns NULL without memory; `id` is the path's.
#ifndef TOB_GATEWAY_ADMIN_ANSWERS_H
#define TOB_GATEWAY_ADMIN_ANSWERS_H

#include <h2o.h>
#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

// The shapes that Tobogganing's clients know.
json_t *tob_answer_cluster_registered(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_cluster_status(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_client_registered(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_key_rotated(const ProtobufCMessage *response, const char *id);

json_t *tob_answer_headend_registered(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_headend_token(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_certificate_issued(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_cluster_deleted(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_client_deleted(const ProtobufCMessage *response, const char *id);
json_t *tob_answer_headend_deleted(const ProtobufCMessage *response, const char *id);

// Borrowed from the message.
h2o_iovec_t tob_answer_authority_pem(const ProtobufCMessage *response);
h2o_iovec_t tob_answer_crl_der(const ProtobufCMessage *response);
h2o_iovec_t tob_answer_crl_pem(const ProtobufCMessage *response);
h2o_iovec_t tob_answer_jwks(const ProtobufCMessage *response);

#endif
