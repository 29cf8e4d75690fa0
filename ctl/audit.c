// What admins did.
#include <stdio.h>
#include <stdlib.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/list.h"
#include "ctl/registry.h"
#include "util/clock.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_LIMIT    100000
#define PAGE_SIZE    1000
#define MAX_SINCE_MS (UINT64_C(100) * 365 * 86400000)

// The newest entries, the newest first as they come, until there are `limit`.
typedef struct log_tail {
    json_t *entries;
    size_t limit;
} log_tail;

static int take_page(void *user, const ProtobufCMessage *response) {
    log_tail *tail = user;
    json_t *page = tob_ctl_json(response), *entry = NULL;
    const json_t *entries = json_object_get(page, "entries");
    int status = entries ? 0 : tob_ctl_no_memory();
    size_t i = 0;
    json_array_foreach(entries, i, entry) {
        if (status == 0 && json_array_size(tail->entries) < tail->limit &&
            json_array_append(tail->entries, entry)) {
            status = tob_ctl_no_memory();
        }
    }
    json_decref(page);
    return status ? status : json_array_size(tail->entries) < tail->limit ? 0 : TOB_CTL_ENOUGH;
}

// The same entries in the order in which it happened. NULL without memory.
static json_t *reversed(const json_t *entries) {
    json_t *array = json_array();
    for (size_t i = json_array_size(entries); array && i > 0; i--) {
        if (json_array_append(array, json_array_get(entries, i - 1))) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static int print_entries(const tob_ctl_session *session, const json_t *entries) {
    static const tob_ctl_column columns[] = {
        {"TIME", "at_unix_ms"}, {"WHO", "who"},       {"FROM", "peer"},
        {"ACTION", "action"},   {"TARGET", "target"}, {"DETAIL", "detail"},
    };
    tob_ctl_table table = {.columns = columns, .column_count = COUNT(columns)};
    if (session->json) {
        printf("[");
        tob_ctl_print_json_rows(entries, true);
        printf("\n]\n");
    } else {
        tob_ctl_print_page(&table, entries);
    }
    return tob_ctl_finish(0);
}

static int show(tob_ctl_session *session, const tob_command *command,
                Tobogganing__V1__ListAuditRequest *request, size_t limit) {
    log_tail tail = {.entries = json_array(), .limit = limit};
    json_t *ordered = NULL;
    int status = tail.entries ? tob_ctl_open(session, command, TOB_CTL_ADMIN) : tob_ctl_no_memory();
    if (status == 0) {
        status = tob_ctl_each_page(session, TOB_CTL_SERVICE "ListAudit", &request->base,
                                   &tobogganing__v1__list_audit_response__descriptor, take_page, &tail);
    }
    if (status == 0) {
        ordered = reversed(tail.entries);
        status = ordered ? print_entries(session, ordered) : tob_ctl_no_memory();
    }
    tob_ctl_close(session);
    json_decref(ordered);
    json_decref(tail.entries);
    return status;
}

static int audit(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const char *target = NULL;
    uint64_t since_ms = 0, limit = 0;
    const tob_option options[] = {
        {.name = "target",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &target,
         .help = "Only what was done to this id, certificate (its serial) or signing key (its kid)."},
        {.name = "since",
         .value = "TIME",
         .kind = TOB_OPTION_DURATION,
         .target = &since_ms,
         .min = 1,
         .max = MAX_SINCE_MS,
         .help = "Only the last 24h, say. Default: all."},
        {.name = "limit",
         .value = "N",
         .fallback = "1000",
         .kind = TOB_OPTION_NUMBER,
         .target = &limit,
         .min = 1,
         .max = MAX_LIMIT,
         .help = "Only the newest N."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description =
            "The oldest first. Who is the name of an admin token, or the first digits of its SHA-256.",
        .examples = "  tobogganctl audit --since 24h\n"
                    "  tobogganctl audit --target laptop-7 --json",
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__ListAuditRequest request = TOBOGGANING__V1__LIST_AUDIT_REQUEST__INIT;
    uint64_t now_ms = tob_clock_unix_ms();
    request.target = tob_ctl_given(target);
    request.page_size = (uint32_t)(limit < PAGE_SIZE ? limit : PAGE_SIZE);
    request.since_unix_ms = since_ms && since_ms < now_ms ? now_ms - since_ms : 0;
    return show(&session, &command, &request, (size_t)limit);
}

static const tob_ctl_command commands[] = {
    {"audit", audit, "print what admins did", NULL},
};
const tob_ctl_commands tob_ctl_audit_commands = {commands, COUNT(commands)};
