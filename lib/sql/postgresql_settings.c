#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/postgresql.h"

// A reserved character that is not escaped makes the rest of a password look like a host or a path, which then appears in
// messages: such URLs are refused (RFC 3986 §3.2: an @ has to be %40 everywhere but before the host).
static bool is_ambiguous(const char *url) {
    const char *authority = strstr(url, "://") + 3;
    const char *at = strchr(authority, '@');
    return at && (strchr(at + 1, '@') || strcspn(authority, "/?#") < (size_t)(at - authority));
}

// libpq quotes what it can't understand, which may be a part of a password: only what stands in front is told.
static void before_quote(const char *message, char *to, size_t size) {
    int n = (int)strcspn(message, "\"");
    snprintf(to, size, "%.*s%s", n, message, message[n] ? "…" : "");
}

static const char *option(const tob_pg_settings *settings, const char *keyword) {
    for (const PQconninfoOption *o = settings->options; o && o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            return o->val;
        }
    }
    return NULL;
}

// One, or as many as hosts.
static bool is_port(const char *port) {
    return !port || port[strspn(port, "0123456789,")] == 0;
}

static tob_error make_name(tob_pg_settings *settings) {
    const char *host = option(settings, "host"), *port = option(settings, "port");
    const char *database = option(settings, "dbname");
    if (!host) {
        host = option(settings, "hostaddr");
    }
    settings->hosts = 1;
    for (const char *c = host ? host : ""; *c; c++) {
        settings->hosts += *c == ',';
    }
    if (asprintf(&settings->name, "postgresql://%s%s%s/%s", host ? host : "", port ? ":" : "",
                 port ? port : "", database ? database : "") < 0) {
        settings->name = NULL;
        return TOB_NO_MEMORY;
    }
    return TOB_OK;
}

tob_error tob_pg_settings_init(tob_pg_settings *settings, const char *url, const char *password_file,
                               tob_sql_problem_text *ret_problem) {
    char *message = NULL, said[TOB_SQL_MAX_PROBLEM_BYTES / 2] = "";
    *settings = (tob_pg_settings){0};
    if (is_ambiguous(url)) {
        tob_sql_say(ret_problem,
                    "the database's URL is not valid: reserved characters in the user's name, the "
                    "password or parameters must be escaped (@ is %%40, / is %%2F)");
        return TOB_INVALID;
    }
    settings->options = PQconninfoParse(url, &message);
    if (!settings->options) {
        before_quote(message ? message : "out of memory", said, sizeof(said));
        PQfreemem(message);
        tob_sql_say(ret_problem, "the database's URL is not valid: %s", said);
        return TOB_INVALID;
    }
    if (!is_port(option(settings, "port"))) { // "user:password" without a host
        tob_sql_say(ret_problem, "the database's URL is not valid: the port is not a number");
        tob_pg_settings_fini(settings);
        return TOB_INVALID;
    }
    tob_error err = make_name(settings);
    if (!err && password_file && password_file[0]) {
        settings->password_file = strdup(password_file);
        err = settings->password_file ? TOB_OK : TOB_NO_MEMORY;
    }
    if (err) {
        tob_sql_say(ret_problem, "%s", tob_error_string(err));
        tob_pg_settings_fini(settings);
    }
    return err;
}

void tob_pg_settings_fini(tob_pg_settings *settings) {
    for (PQconninfoOption *o = settings->options; o && o->keyword; o++) {
        if (o->val) {
            explicit_bzero(o->val, strlen(o->val));
        }
    }
    PQconninfoFree(settings->options);
    free(settings->password_file);
    free(settings->name);
    *settings = (tob_pg_settings){0};
}

bool tob_sql_url_has_password(const char *url) {
    tob_pg_settings settings = {0};
    tob_sql_problem_text problem;
    if (strncmp(url, "sqlite:", 7) == 0 || !strstr(url, "://")) {
        return false;
    }
    if (tob_pg_settings_init(&settings, url, NULL, &problem)) {
        return strchr(url, '@') != NULL; // nobody can say what of it is a password
    }
    bool has = option(&settings, "password") || option(&settings, "sslpassword");
    tob_pg_settings_fini(&settings);
    return has;
}

// The first line of the file.
static tob_error read_password(const char *path, char ret[TOB_PG_MAX_PASSWORD_BYTES + 1],
                               tob_sql_problem_text *ret_problem) {
    FILE *file = fopen(path, "re");
    if (!file) {
        int error = errno;
        tob_sql_say(ret_problem, "the database's password file %s: %s", path, strerror(error));
        return tob_error_from_errno(error);
    }
    setvbuf(file, NULL, _IONBF, 0); // no copy of it in a buffer that nobody wipes
    char line[TOB_PG_MAX_PASSWORD_BYTES + 3] = "";
    bool got = fgets(line, sizeof(line), file) != NULL;
    bool broken = ferror(file) != 0;
    fclose(file);
    line[strcspn(line, "\r\n")] = 0;
    size_t n = strlen(line);
    tob_error err = TOB_OK;
    if (broken) {
        err = TOB_IO;
    } else if (n > TOB_PG_MAX_PASSWORD_BYTES) {
        err = TOB_TOO_LARGE;
    } else if (!got || n == 0) {
        err = TOB_INVALID;
    }
    if (err) {
        tob_sql_say(ret_problem, "the database's password file %s: %s", path,
                    err == TOB_INVALID ? "its first line is empty" : tob_error_string(err));
    } else {
        memcpy(ret, line, n + 1);
    }
    explicit_bzero(line, sizeof(line));
    return err;
}

// libpq takes the last of several values of one keyword.
typedef struct keywords {
    const char *names[TOB_PG_MAX_SETTINGS + 1];
    const char *values[TOB_PG_MAX_SETTINGS + 1];
    size_t count;
} keywords;

static void set(keywords *k, const char *name, const char *value) {
    assert(k->count < TOB_PG_MAX_SETTINGS); // libpq knows some forty, each of which the URL sets once
    k->names[k->count] = name;
    k->values[k->count++] = value;
}

tob_error tob_pg_start(const tob_pg_settings *settings, PGconn **ret, tob_sql_problem_text *ret_problem) {
    char password[TOB_PG_MAX_PASSWORD_BYTES + 1] = "", timeout[24];
    keywords k = {0};
    if (settings->password_file) {
        tob_error err = read_password(settings->password_file, password, ret_problem);
        if (err) {
            return err;
        }
    }
    snprintf(timeout, sizeof(timeout), "%d", TOB_SQL_TIMEOUT_MS);
    set(&k, "fallback_application_name", program_invocation_short_name);
    set(&k, "tcp_user_timeout", timeout); // of what is sent and not acknowledged; also of a SYN
    set(&k, "keepalives_idle", "5");      // for the watcher's connection to a host that is gone
    set(&k, "keepalives_interval", "2");
    set(&k, "keepalives_count", "3");
    for (const PQconninfoOption *o = settings->options; o->keyword; o++) {
        if (o->val) {
            set(&k, o->keyword, o->val);
        }
    }
    set(&k, "client_encoding", "UTF8");
    if (settings->password_file) {
        set(&k, "password", password);
    }
    *ret = PQconnectStartParams(k.names, k.values, 0);
    explicit_bzero(password, sizeof(password));
    return *ret ? TOB_OK : TOB_NO_MEMORY;
}
