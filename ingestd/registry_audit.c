#include <string.h>

#include "ingestd/registry.h"

// The log of every act: it is added to and read; the database refuses to change it.

tob_error tob_registry_audit(tob_registry *registry, const char *action, const char *target,
                             const char *detail) {
    static const char statement[] = "INSERT INTO audit (at_unix_ms, who, peer, action, target, detail) "
                                    "VALUES ($1, $2, $3, $4, $5, $6)";
    const tob_registry_actor *actor = tob_registry_acting(registry);
    tob_sql_value params[] = {tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_text(actor->who),
                              tob_sql_text(actor->peer),
                              tob_sql_text(action),
                              tob_sql_text(target),
                              tob_sql_text(detail)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 6, NULL, NULL, NULL);
}

void tob_registry_detail_changed(char detail[TOB_REGISTRY_DETAIL_BYTES], const char *field,
                                 const char *before, const char *after) {
    size_t used = strlen(detail), separator = used ? 2 : 0, n = strlen(field);
    if (strcmp(before, after) == 0 || used + separator + n >= TOB_REGISTRY_DETAIL_BYTES) {
        return;
    }
    memcpy(detail + used, ", ", separator);
    memcpy(detail + used + separator, field, n + 1);
}

typedef struct audit_reading {
    tob_registry_audit_fn fn;
    void *user;
} audit_reading;

static tob_error see_entry(void *user, const tob_sql_row *row) {
    const audit_reading *reading = user;
    tob_registry_audit_entry entry = {.number = tob_sql_row_integer(row, 0),
                                      .at_unix_ms = tob_sql_row_integer(row, 1),
                                      .who = tob_sql_row_text(row, 2),
                                      .peer = tob_sql_row_text(row, 3),
                                      .action = tob_sql_row_text(row, 4),
                                      .target = tob_sql_row_text(row, 5),
                                      .detail = tob_sql_row_text(row, 6)};
    return reading->fn(reading->user, &entry);
}

#define ENTRIES "SELECT number, at_unix_ms, who, peer, action, target, detail FROM audit"

tob_error tob_registry_list_audit(tob_registry *registry, uint64_t before, const char *target,
                                  uint64_t since_unix_ms, uint32_t max, tob_registry_audit_fn fn,
                                  void *user) {
    static const char all[] = ENTRIES " WHERE number < $1 AND at_unix_ms >= $2 ORDER BY number DESC LIMIT $3";
    static const char of_target[] = ENTRIES " WHERE number < $1 AND at_unix_ms >= $2 AND target = $3 "
                                            "ORDER BY number DESC LIMIT $4";
    audit_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[4] = {tob_sql_integer(before < INT64_MAX ? before : INT64_MAX),
                               tob_sql_integer(since_unix_ms < INT64_MAX ? since_unix_ms : INT64_MAX)};
    size_t count = 2;
    if (*target) {
        params[count++] = tob_sql_text(target);
    }
    params[count++] = tob_sql_integer(max);
    return tob_sql_run(tob_registry_sql(registry), *target ? of_target : all, params, count, see_entry,
                       &reading, NULL);
}
