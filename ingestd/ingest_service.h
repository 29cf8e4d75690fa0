// The Ingest service: authenticates (credentials.h) and checks a batch, on the thread of its call and touching no shared
// state but the directory's read lock, then hands it to the committer.
//
// Threads: the service is made and freed by one; calls come on NNG's.
#ifndef TOB_INGESTD_INGEST_SERVICE_H
#define TOB_INGESTD_INGEST_SERVICE_H

#include <stdint.h>

#include "ingestd/committer.h"
#include "ingestd/credentials.h"
#include "rpc/server.h"
#include "util/secret.h"

typedef struct tob_ingest_service tob_ingest_service;

// All borrowed; they must outlive the service.
typedef struct tob_ingest_service_options {
    tob_committer *committer;
    tob_credentials *credentials;
    tob_secrets *forwarder_secrets; // whose word for where series came from is believed; NULL: nobody's
} tob_ingest_service_options;

// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_ingest_service_new(const tob_ingest_service_options *options,
                                              tob_ingest_service **ret);
void tob_ingest_service_free(tob_ingest_service *service);
TOB_MUST_USE tob_error tob_ingest_service_register(tob_ingest_service *service, tob_rpc_server *server);

// Series refused since the start.
uint64_t tob_ingest_service_rejected(const tob_ingest_service *service);

#endif
