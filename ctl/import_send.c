#include "ctl/import_send.h"

#include <stdio.h>

#include "ctl/output.h"
#include "ctl/registry.h"
#include "util/random.h"

// One chunk as protobuf-c wants it.
typedef struct chunk {
    Tobogganing__V1__ImportClientsRequest request;
    Tobogganing__V1__ImportedClient clients[TOB_IMPORT_CHUNK_ROWS];
    Tobogganing__V1__ImportedClient *pointers[TOB_IMPORT_CHUNK_ROWS];
} chunk;

static void fill_client(Tobogganing__V1__ImportedClient *client, const tob_import_row *row) {
    tobogganing__v1__imported_client__init(client);
    client->client_id = (char *)row->client_id;
    client->name = (char *)row->name;
    client->type = (char *)row->type;
    client->cluster_id = (char *)row->cluster_id;
    client->public_key = (char *)row->public_key;
    client->location = (char *)row->location;
    client->key_sha256 = (ProtobufCBinaryData){sizeof(row->key_sha256), (uint8_t *)row->key_sha256};
}

// Takes rows from `from` on until the chunk is full; returns how many.
static size_t fill(chunk *c, const tob_import_rows *rows, size_t from) {
    size_t n = 0, bytes = 0;
    while (n < TOB_IMPORT_CHUNK_ROWS && from + n < rows->count && bytes < TOB_IMPORT_CHUNK_BYTES) {
        fill_client(&c->clients[n], &rows->rows[from + n]);
        bytes += tobogganing__v1__imported_client__get_packed_size(&c->clients[n]);
        c->pointers[n] = &c->clients[n];
        n++;
    }
    c->request.clients = c->pointers;
    c->request.n_clients = n;
    return n;
}

static int send_chunk(tob_ctl_session *session, const chunk *c,
                      Tobogganing__V1__ImportClientsResponse **ret) {
    ProtobufCMessage *response = NULL;
    int status = tob_ctl_call(session, TOB_CTL_SERVICE "ImportClients", &c->request.base,
                              &tobogganing__v1__import_clients_response__descriptor, TOB_OK, &response);
    session->only_server = session->last_call.server; // where the chunks are
    *ret = (Tobogganing__V1__ImportClientsResponse *)response;
    return status;
}

// Nobody answered, or an ingestd whose database went away: it can't tell whether that was before or after the commit.
static bool may_be_done(const tob_ctl_session *session) {
    return session->last_call.sent &&
           (!session->last_call.answered || session->last_error == TOB_UNAVAILABLE);
}

// The last call does all the work: it may take longer than the others.
static int send_last(tob_ctl_session *session, chunk *c, size_t rows,
                     Tobogganing__V1__ImportClientsResponse **ret, bool *ret_unsure) {
    uint64_t timeout_ms = session->timeout_ms;
    c->request.commit = true;
    session->timeout_ms += rows;
    int status = send_chunk(session, c, ret);
    session->timeout_ms = timeout_ms;
    *ret_unsure = status && may_be_done(session);
    return status;
}

int tob_import_send(tob_ctl_session *session, const tob_import_rows *rows, bool skip_existing,
                    int (*before_commit)(void *user), void *user,
                    Tobogganing__V1__ImportClientsResponse **ret, bool *ret_unsure) {
    static chunk c; // too large for the stack
    Tobogganing__V1__ImportClientsResponse *response = NULL;
    size_t sent = 0;
    int status = 0;
    tobogganing__v1__import_clients_request__init(&c.request);
    c.request.import_id = tob_random_u64();
    c.request.skip_existing = skip_existing;
    while (status == 0 && sent < rows->count) {
        tobogganing__v1__import_clients_response__free_unpacked(response, NULL);
        response = NULL;
        sent += fill(&c, rows, sent);
        c.request.sequence++;
        if (sent < rows->count) {
            status = send_chunk(session, &c, &response);
            tob_ctl_progress("%zu of %zu clients sent", sent, rows->count);
        } else {
            status = before_commit(user);
            status = status ? status : send_last(session, &c, rows->count, &response, ret_unsure);
        }
    }
    tob_ctl_progress("%s", "");
    if (status) {
        tobogganing__v1__import_clients_response__free_unpacked(response, NULL);
        return status;
    }
    *ret = response;
    return 0;
}
