#include "ingestd/identity.h"

#include <stdio.h>
#include <string.h>

#include "ingestd/certificates.h"
#include "ingestd/signing_keys.h"
#include "util/clock.h"
#include "util/log.h"

#define MAX_URL_BYTES 4200

static tob_error open_secrets(const char *list, const char *file, const char *env, const char *option,
                              tob_secrets **ret, tob_start_problem *p) {
    tob_error err = tob_secrets_new(list, file, ret);
    if (err) {
        return tob_start_fail(p, err, option, "can't read the tokens%s%s: %s", file && *file ? " of " : "",
                              file ? file : "", tob_error_string(err));
    }
    if (tob_secrets_count(*ret) == 0) {
        return tob_start_fail(p, TOB_INVALID, option, "no token: set %s or --%s", env, option);
    }
    return TOB_OK;
}

static tob_error open_tokens(tob_identity *i, const tob_ingestd_settings *s, tob_start_problem *p) {
    tob_error err = open_secrets(s->admin_tokens, s->admin_token_file, "ADMIN_TOKEN", "admin-token-file",
                                 &i->admin_secrets, p);
    if (!err) {
        err = open_secrets(s->cluster_tokens, s->cluster_token_file, "CLUSTER_TOKEN", "cluster-token-file",
                           &i->cluster_secrets, p);
    }
    return err;
}

static tob_error open_registry(tob_identity *i, const tob_ingestd_settings *s, tob_start_problem *p) {
    char url[MAX_URL_BYTES];
    tob_sql_problem_text why = {.text = ""};
    bool given = s->registry_url && *s->registry_url;
    if (snprintf(url, sizeof(url), "sqlite:%s/registry.db", s->state_dir) >= (int)sizeof(url)) {
        return tob_start_fail(p, TOB_INVALID, "state-dir", "the path is too long");
    }
    tob_error err =
        tob_registry_open(given ? s->registry_url : url, s->registry_password_file, &i->registry, &why);
    if (err) {
        return tob_start_fail(p, err, "registry", "%s", why.text);
    }
    err = tob_directory_new(&i->directory);
    if (!err) {
        err = tob_registry_sync_new(i->registry, i->directory, &i->sync);
    }
    return err;
}

// What the registry's own text says better than the error's.
static tob_error fail_registry(const tob_identity *i, tob_error err, const char *what, const char *why,
                               tob_start_problem *p) {
    const char *problem = why && *why ? why : tob_registry_last_problem(i->registry);
    return tob_start_fail(p, err, "registry", "%s: %s", what, *problem ? problem : tob_error_string(err));
}

static void warn_of_authority(const tob_ca *ca, uint64_t now_unix_s) {
    const char *invalid = tob_ca_invalid_at(ca, now_unix_s);
    char problem[64];
    if (invalid) {
        snprintf(problem, sizeof(problem), "the certificate %s", invalid);
        tob_warn("authority_not_valid", TOB_STR("problem", problem), TOB_STR("subject", tob_ca_subject(ca)));
    }
}

static tob_error open_keys(tob_identity *i, const tob_ingestd_settings *s, tob_start_problem *p) {
    uint64_t now_unix_ms = tob_clock_unix_ms();
    char why[TOB_JWT_PROBLEM_BYTES] = "";
    tob_ca_problem ca_why = {.text = ""};
    const tob_jwt_options options = {.jwks_path = s->jwks_file,
                                     .jwks_issuer = s->jwks_issuer,
                                     .jwks_audience = s->jwks_audience};
    tob_error err = tob_jwt_new(&options, why, &i->jwt);
    if (err) {
        return tob_start_fail(p, err, "jwks-file", "%s", why);
    }
    err = tob_signing_keys_open(i->registry, i->jwt, s->state_dir, now_unix_ms, why);
    if (err) {
        return fail_registry(i, err, "can't open the signing keys", why, p);
    }
    err = tob_certificates_open(i->registry, s->ca_cert_file, s->ca_key_file, now_unix_ms / 1000, &i->ca,
                                &ca_why);
    if (err && s->ca_cert_file && *s->ca_cert_file) {
        return tob_start_fail(p, err, "ca-cert-file", "%s", ca_why.text);
    }
    if (err) {
        return fail_registry(i, err, "can't open the authority", ca_why.text, p);
    }
    warn_of_authority(i->ca, now_unix_ms / 1000);
    return TOB_OK;
}

tob_error tob_identity_open(tob_identity *identity, const tob_ingestd_settings *settings,
                            tob_process *process, tob_start_problem *problem) {
    tob_identity *i = identity;
    tob_error err = open_tokens(i, settings, problem);
    if (!err) {
        err = open_registry(i, settings, problem);
    }
    if (!err) {
        err = open_keys(i, settings, problem);
    }
    if (!err) {
        err = tob_limiter_new(settings->wrong_credentials_burst, &i->limiter);
    }
    if (!err) {
        err = tob_limiter_new(settings->wrong_credentials_burst, &i->token_limiter);
    }
    if (!err) {
        err = tob_expiries_new(&i->expiries);
    }
    if (!err) {
        err = tob_revocations_new(i->registry, i->ca, &i->revocations);
    }
    if (!err) {
        const tob_credentials_options options = {.directory = i->directory,
                                                 .jwt = i->jwt,
                                                 .limiter = i->limiter,
                                                 .token_limiter = i->token_limiter,
                                                 .process = process};
        err = tob_credentials_new(&options, &i->credentials);
    }
    if (!err) {
        tob_expiries_set_authority(i->expiries, tob_ca_not_after_unix_s(i->ca));
    }
    return err;
}

void tob_identity_close(tob_identity *identity) {
    tob_credentials_free(identity->credentials);
    tob_expiries_free(identity->expiries);
    tob_limiter_free(identity->token_limiter);
    tob_limiter_free(identity->limiter);
    tob_revocations_free(identity->revocations);
    tob_ca_free(identity->ca);
    tob_jwt_free(identity->jwt);
    tob_registry_sync_free(identity->sync);
    tob_registry_close(identity->registry);
    tob_directory_free(identity->directory);
    tob_secrets_free(identity->admin_secrets);
    tob_secrets_free(identity->cluster_secrets);
    *identity = (tob_identity){.registry = NULL};
}

// ---- what follows the registry's changes

static void source_changed(void *committer, tob_source_kind kind, const char *id) {
    tob_committer_source_changed(committer, kind, id);
}

static void client_erased(void *eraser, const char *id, uint64_t change) {
    tob_eraser_erase(eraser, id, change);
}

static void numbered(void *eraser, uint64_t last) {
    tob_eraser_numbered(eraser, last);
}

tob_error tob_identity_load(tob_identity *identity, tob_committer *committer, tob_eraser *eraser,
                            tob_start_problem *problem) {
    const tob_registry_sync_listener listeners[] = {
        {.source_changed = source_changed, .user = committer},
        {.numbered = numbered, .client_erased = client_erased, .user = eraser},
        {.signing_keys_changed = tob_signing_keys_changed, .user = identity->jwt},
        {.certificates_changed = tob_certificates_changed, .user = identity->expiries},
    };
    for (size_t n = 0; n < sizeof(listeners) / sizeof(listeners[0]); n++) {
        tob_registry_sync_listen(identity->sync, &listeners[n]);
    }
    tob_error err = tob_registry_sync_run(identity->sync);
    return err ? fail_registry(identity, err, "can't load the registry", NULL, problem) : TOB_OK;
}

static void reload_secrets(tob_secrets *secrets, const char *what) {
    tob_error err = tob_secrets_reload(secrets);
    if (err) {
        tob_warn("reload_failed", TOB_STR("what", what), TOB_ERR(err));
    }
}

void tob_identity_reload(tob_identity *identity) {
    char why[TOB_JWT_PROBLEM_BYTES] = "";
    reload_secrets(identity->admin_secrets, "admin tokens");
    reload_secrets(identity->cluster_secrets, "cluster tokens");
    if (tob_jwt_reload(identity->jwt, why) != TOB_OK) {
        tob_warn("reload_failed", TOB_STR("what", "JWKS"), TOB_STR("problem", why));
    }
    tob_info("reloaded", TOB_STR("what", "token files and JWKS"));
}
