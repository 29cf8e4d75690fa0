// The Reports service: a source reads back what it reported last, with what it reports with.
//
// Threads: calls come on NNG's.
#ifndef TOB_INGESTD_REPORTS_SERVICE_H
#define TOB_INGESTD_REPORTS_SERVICE_H

#include "ingestd/committer.h"
#include "ingestd/credentials.h"
#include "rpc/server.h"

// All borrowed; they and the service must outlive the server.
typedef struct tob_reports_service {
    tob_committer *committer;
    tob_credentials *credentials;
} tob_reports_service;

TOB_MUST_USE tob_error tob_reports_service_register(tob_reports_service *service, tob_rpc_server *server);

#endif
