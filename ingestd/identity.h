// tob_identity is all that ingestd knows of who is who: tokens of admins and processes, the registry with its directory in
// memory, the keys of headends' tokens, the authority of certificates, and what judges credentials by them.
//
// Threads: _open, _listen, _reload and _close from main's; the parts say for themselves.
#ifndef TOB_INGESTD_IDENTITY_H
#define TOB_INGESTD_IDENTITY_H

#include "ingestd/ca.h"
#include "ingestd/committer.h"
#include "ingestd/credentials.h"
#include "ingestd/daemon.h"
#include "ingestd/directory.h"
#include "ingestd/eraser.h"
#include "ingestd/expiries.h"
#include "ingestd/jwt.h"
#include "ingestd/limiter.h"
#include "ingestd/registry.h"
#include "ingestd/registry_sync.h"
#include "ingestd/revocations.h"
#include "ingestd/start_problem.h"
#include "rpc/process.h"
#include "util/secret.h"

typedef struct tob_identity {
    tob_secrets *admin_secrets;
    tob_secrets *cluster_secrets;
    tob_registry *registry;
    tob_directory *directory;
    tob_registry_sync *sync;
    tob_jwt *jwt;
    tob_ca *ca;
    tob_revocations *revocations;
    tob_expiries *expiries;
    tob_limiter *limiter;       // of API keys, admins and processes
    tob_limiter *token_limiter; // of headends' tokens
    tob_credentials *credentials;
} tob_identity;

// tob_identity_open fills in *identity, which is zero; tob_identity_close also after an error. The directory is still empty.
// Errors: with the problem filled; TOB_UNAVAILABLE when the registry's database is away.
TOB_MUST_USE tob_error tob_identity_open(tob_identity *identity, const tob_ingestd_settings *settings,
                                         tob_process *process, tob_start_problem *problem);
void tob_identity_close(tob_identity *identity);

// tob_identity_load reads the registry into the directory. From here on changes reach the committer and the eraser.
TOB_MUST_USE tob_error tob_identity_load(tob_identity *identity, tob_committer *committer, tob_eraser *eraser,
                                         tob_start_problem *problem);

// tob_identity_reload reads token files and the JWKS again; what can't be read is logged and stays as it was.
void tob_identity_reload(tob_identity *identity);

#endif
