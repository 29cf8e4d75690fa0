#include "ingestd/registry.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/registry_migrations.h"
#include "util/clock.h"

struct tob_registry {
    tob_sql *sql;
    tob_sql_problem_text problem; // "": the database's
    bool changing;
    tob_registry_actor actor; // borrowed; these three are the open change's
    uint64_t change;
    uint64_t now_unix_ms;
};

tob_error tob_registry_open(const char *url, const char *password_file, tob_registry **ret,
                            tob_sql_problem_text *ret_problem) {
    tob_error err = TOB_OK;
    tob_registry *registry = calloc(1, sizeof(*registry));
    if (!registry) {
        snprintf(ret_problem->text, sizeof(ret_problem->text), "%s", tob_error_string(TOB_NO_MEMORY));
        return TOB_NO_MEMORY;
    }
    err = tob_sql_open(url, password_file, &registry->sql, ret_problem);
    if (err) {
        goto out;
    }
    err = tob_sql_migrate(registry->sql, tob_registry_migrations, tob_registry_migration_count,
                          tob_clock_unix_ms());
    if (err) {
        snprintf(ret_problem->text, sizeof(ret_problem->text), "%s", tob_sql_problem(registry->sql));
        goto out;
    }
    *ret = registry;
    registry = NULL;
out:
    tob_registry_close(registry);
    return err;
}

void tob_registry_close(tob_registry *registry) {
    if (registry) {
        tob_sql_close(registry->sql);
        free(registry);
    }
}

tob_sql *tob_registry_sql(tob_registry *registry) {
    registry->problem.text[0] = 0;
    return registry->sql;
}

const char *tob_registry_engine(const tob_registry *registry) {
    return tob_sql_engine(registry->sql);
}

const char *tob_registry_last_problem(const tob_registry *registry) {
    return registry->problem.text[0] ? registry->problem.text : tob_sql_problem(registry->sql);
}

void tob_registry_say(tob_registry *registry, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(registry->problem.text, sizeof(registry->problem.text), format, args);
    va_end(args);
}

static tob_error see_number(void *user, const tob_sql_row *row) {
    *(uint64_t *)user = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

// The number is taken first, and its row is locked until the commit: the next change waits here, and sees all of this one.
static tob_error take_number(tob_registry *registry) {
    static const char statement[] =
        "UPDATE registry_state SET change = change + 1 WHERE id = 1 RETURNING change";
    uint64_t rows = 0;
    tob_error err = tob_sql_begin(registry->sql);
    if (err) {
        return err;
    }
    err = tob_sql_run(registry->sql, statement, NULL, 0, see_number, &registry->change, &rows);
    if (!err && rows != 1) {
        tob_registry_say(registry, "the registry's table registry_state has no row");
        err = TOB_DAMAGED;
    }
    if (err) {
        tob_sql_rollback(registry->sql);
    }
    return err;
}

tob_error tob_registry_begin(tob_registry *registry, const tob_registry_actor *actor, uint64_t now_unix_ms) {
    assert(!registry->changing);
    assert(strlen(actor->who) < TOB_REGISTRY_MAX_WHO_BYTES);
    assert(strlen(actor->peer) < TOB_REGISTRY_MAX_PEER_BYTES);
    registry->problem.text[0] = 0;
    tob_error err = take_number(registry);
    if (err) {
        return err;
    }
    registry->changing = true;
    registry->actor = *actor;
    registry->now_unix_ms = now_unix_ms;
    return TOB_OK;
}

tob_error tob_registry_commit(tob_registry *registry) {
    assert(registry->changing);
    tob_sql *sql = tob_registry_sql(registry);
    tob_error err = tob_sql_notify(sql, TOB_REGISTRY_CHANNEL);
    if (!err) {
        err = tob_sql_commit(sql);
    }
    if (err) {
        tob_sql_rollback(sql);
    }
    registry->changing = false;
    return err;
}

void tob_registry_rollback(tob_registry *registry) {
    tob_sql_rollback(registry->sql); // keeps the problem: the caller has yet to tell it
    registry->changing = false;
}

uint64_t tob_registry_change(const tob_registry *registry) {
    assert(registry->changing);
    return registry->change;
}

const tob_registry_actor *tob_registry_acting(const tob_registry *registry) {
    assert(registry->changing);
    return &registry->actor;
}

uint64_t tob_registry_now(const tob_registry *registry) {
    assert(registry->changing);
    return registry->now_unix_ms;
}

static tob_error see_state(void *user, const tob_sql_row *row) {
    uint64_t *numbers = user;
    numbers[0] = tob_sql_row_integer(row, 0);
    numbers[1] = tob_sql_row_integer(row, 1);
    return TOB_OK;
}

tob_error tob_registry_last_change(tob_registry *registry, uint64_t *ret_change, uint64_t *ret_forgotten) {
    static const char statement[] = "SELECT change, forgotten FROM registry_state WHERE id = 1";
    uint64_t numbers[2] = {0, 0}, rows = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, NULL, 0, see_state, numbers, &rows);
    if (!err && rows != 1) {
        tob_registry_say(registry, "the registry's table registry_state has no row");
        err = TOB_DAMAGED;
    }
    if (err) {
        return err;
    }
    *ret_change = numbers[0];
    *ret_forgotten = numbers[1];
    return TOB_OK;
}

tob_error tob_registry_watch(tob_registry *registry, void (*fn)(void *user, bool away), void *user) {
    return tob_sql_watch(tob_registry_sql(registry), TOB_REGISTRY_CHANNEL, fn, user);
}

void tob_registry_unwatch(tob_registry *registry) {
    tob_sql_unwatch(registry->sql);
}
