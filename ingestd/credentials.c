#include "ingestd/credentials.h"

#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/secret.h"
#include "wire/batch.h"

#define LIMITED "credential: too many wrong ones came from this address; try again later"

// The attempts with one type of credentials.
typedef struct attempts {
    const char *type;
    tob_limiter *limiter;
    tob_counter *success;
    tob_counter *failure;
    tob_counter *limited;
} attempts;

struct tob_credentials {
    tob_credentials_options options;
    attempts keys;
    attempts tokens;
};

static void attempts_init(attempts *a, tob_process *process, const char *type, tob_limiter *limiter) {
    const Tobogganing__V1__CounterFamily family =
        TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    a->type = type;
    a->limiter = limiter;
    a->success = tob_process_counter(process, family, type, "success", NULL);
    a->failure = tob_process_counter(process, family, type, "failure", NULL);
    a->limited = tob_process_counter(process, family, type, "limited", NULL);
}

tob_error tob_credentials_new(const tob_credentials_options *options, tob_credentials **ret) {
    tob_credentials *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    c->options = *options;
    attempts_init(&c->keys, options->process, "api_key", options->limiter);
    attempts_init(&c->tokens, options->process, "jwt", options->token_limiter);
    *ret = c;
    return TOB_OK;
}

void tob_credentials_free(tob_credentials *c) {
    free(c);
}

static void refuse(tob_claim *claim, tob_error error, const char *reason) {
    claim->error = error;
    claim->reason = reason;
}

static const char *peer_of(const tob_claim *claim, tob_rpc_call *call) {
    return claim->peer ? claim->peer : tob_rpc_call_peer(call);
}

static void limit(tob_claim *claim, uint64_t retry_ms) {
    refuse(claim, TOB_UNAUTHENTICATED, LIMITED);
    claim->retry_after_ms = (uint32_t)retry_ms; // less than the time in which a bucket fills
}

// Counts what was refused, and slows down where a wrong one came from. A good token of somebody else's is not a wrong one.
static void count_refused(tob_rpc_call *call, const attempts *a, tob_claim *claim) {
    if (claim->error != TOB_UNAUTHENTICATED) {
        tob_counter_add(a->failure, 1);
        return;
    }
    uint64_t now_ms = tob_clock_monotonic_ms(), retry_ms = 0;
    const char *peer = peer_of(claim, call);
    if (!claim->retry_after_ms && tob_limiter_failed(a->limiter, peer, now_ms, &retry_ms)) {
        limit(claim, retry_ms);
    }
    tob_counter_add(claim->retry_after_ms ? a->limited : a->failure, 1);
    if (claim->retry_after_ms) {
        tob_limiter_log(a->limiter, peer, a->type, now_ms);
    }
}

static void count(tob_rpc_call *call, const attempts *a, tob_claim *claims, size_t n) {
    uint64_t success = 0;
    for (size_t i = 0; i < n; i++) {
        if (claims[i].error) {
            count_refused(call, a, &claims[i]);
        } else {
            success++;
        }
    }
    if (success) {
        tob_counter_add(a->success, success);
    }
}

// Whoever sends too long a credential is refused without looking at it.
static bool too_long(tob_claim *claim) {
    if (strnlen(claim->credential, TOB_MAX_CREDENTIAL_BYTES + 1) <= TOB_MAX_CREDENTIAL_BYTES) {
        return false;
    }
    refuse(claim, TOB_UNAUTHENTICATED, "credential: over 8192 bytes");
    return true;
}

// ---- API keys

// The directory's read lock is held. Nobody can find out who is registered: an unknown client costs the same work and gets
// the same answer as a wrong key.
static void judge_key(tob_credentials *c, tob_claim *claim, const uint8_t hash[TOB_SHA256_BYTES],
                      uint64_t now_unix_ms) {
    const tob_directory_client *client =
        tob_directory_find_client(c->options.directory, claim->id, strlen(claim->id));
    tob_key_match match = tob_directory_match_key(client, hash, now_unix_ms);
    if (!client || match == TOB_KEY_WRONG) {
        refuse(claim, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    } else if (client->revoked) {
        refuse(claim, TOB_UNAUTHENTICATED, "credential: this client's API key is revoked");
    } else {
        tob_directory_client_heard(c->options.directory, client, match);
    }
}

static void claim_init(tob_claim *claim) {
    claim->error = TOB_OK;
    claim->reason = NULL;
    claim->retry_after_ms = 0;
}

void tob_credentials_clients(tob_credentials *c, tob_rpc_call *call, tob_claim *claims, size_t n) {
    const char *hashed = NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    uint64_t now_unix_ms = tob_clock_unix_ms();
    if (n == 0) {
        return;
    }
    tob_sha256_context *context = tob_sha256_context_new();
    tob_directory_read_lock(c->options.directory);
    for (size_t i = 0; i < n; i++) {
        const char *key = claims[i].credential;
        claim_init(&claims[i]);
        if (key != hashed && too_long(&claims[i])) {
            continue;
        }
        if (key != hashed) { // an agent has one for all of its series
            tob_sha256_with(context, key, strlen(key), hash);
            hashed = key;
        }
        judge_key(c, &claims[i], hash, now_unix_ms);
    }
    tob_directory_read_unlock(c->options.directory);
    tob_sha256_context_free(context);
    count(call, &c->keys, claims, n);
}

// ---- tokens

// Is it a good token, and whose? A remembered one costs a hash; for any other an address that has shown too many wrong ones
// has to wait, since checking a signature costs a thousand times that.
static void judge_token(tob_credentials *c, tob_rpc_call *call, tob_claim *claim, uint64_t now_unix_s,
                        tob_jwt_claims *ret) {
    const char *token = claim->credential;
    uint64_t retry_ms = 0;
    if (too_long(claim)) {
        return;
    }
    size_t len = strlen(token);
    if (tob_jwt_cached(c->options.jwt, token, len, now_unix_s, ret)) {
        return;
    }
    if (tob_limiter_full(c->tokens.limiter, peer_of(claim, call), tob_clock_monotonic_ms(), &retry_ms)) {
        limit(claim, retry_ms);
        return;
    }
    claim->error = tob_jwt_verify(c->options.jwt, token, len, now_unix_s, ret, &claim->reason);
}

// May the headend that the token is of report?
static void judge_headend(tob_credentials *c, tob_claim *claim, const tob_jwt_claims *said) {
    tob_directory_read_lock(c->options.directory);
    const tob_directory_headend *headend =
        tob_directory_find_headend(c->options.directory, said->sub, strlen(said->sub));
    if (!headend) {
        refuse(claim, TOB_NOT_FOUND, "headend_id: no such headend is registered");
    } else if (headend->revoked) {
        refuse(claim, TOB_UNAUTHENTICATED, "credential: this headend, or its cluster, is revoked");
    } else if (said->iat_unix_s < headend->tokens_not_before_unix_s) {
        refuse(claim, TOB_UNAUTHENTICATED, "credential: this headend's tokens of that time are revoked");
    }
    tob_directory_read_unlock(c->options.directory);
}

// One token after the other is judged and counted, so that the limit holds within a batch too.
//   said   of the claim before, if that had the same token and was let in; else its `sub` is empty
static void judge(tob_credentials *c, tob_rpc_call *call, tob_claim *claim, const char *id,
                  uint64_t now_unix_s, tob_jwt_claims *said) {
    claim_init(claim);
    if (!*said->sub) {
        judge_token(c, call, claim, now_unix_s, said);
    }
    if (!claim->error && id && strcmp(said->sub, id) != 0) {
        refuse(claim, TOB_PERMISSION_DENIED, "credential: the token is for another headend");
    }
    if (!claim->error) {
        judge_headend(c, claim, said);
    }
    count(call, &c->tokens, claim, 1);
}

void tob_credentials_headends(tob_credentials *c, tob_rpc_call *call, tob_claim *claims, size_t n) {
    uint64_t now_unix_s = tob_clock_unix_ms() / 1000;
    tob_jwt_claims said = {.sub = ""};
    for (size_t i = 0; i < n; i++) {
        bool same = i > 0 && claims[i].credential == claims[i - 1].credential && !claims[i - 1].error;
        if (!same) {
            said.sub[0] = 0;
        }
        judge(c, call, &claims[i], claims[i].id, now_unix_s, &said);
    }
}

void tob_credentials_token(tob_credentials *c, tob_rpc_call *call, tob_claim *claim,
                           char ret_headend_id[TOB_MAX_ID_BYTES + 1]) {
    tob_jwt_claims said = {.sub = ""};
    judge(c, call, claim, NULL, tob_clock_unix_ms() / 1000, &said);
    if (!claim->error) {
        memcpy(ret_headend_id, said.sub, sizeof(said.sub));
    }
}
