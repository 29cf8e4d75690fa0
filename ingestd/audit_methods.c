#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/registry_fields.h"
#include "ingestd/registry_rows.h"
#include "util/text.h"

static tob_error see_entry(void *user, const tob_registry_audit_entry *entry) {
    tob_registry_page *page = user;
    Tobogganing__V1__AuditEntry *row = NULL;
    size_t bytes = strlen(entry->who) + strlen(entry->peer) + strlen(entry->action) + strlen(entry->target) +
                   strlen(entry->detail);
    tob_error err =
        tob_registry_page_row(page, &tobogganing__v1__audit_entry__descriptor, bytes, (void **)&row);
    if (err) {
        return err;
    }
    row->number = entry->number;
    row->at_unix_ms = entry->at_unix_ms;
    row->who = tob_registry_text(page->arena, entry->who);
    row->peer = tob_registry_text(page->arena, entry->peer);
    row->action = tob_registry_text(page->arena, entry->action);
    row->target = tob_registry_text(page->arena, entry->target);
    row->detail = tob_registry_text(page->arena, entry->detail);
    return tob_arena_error(page->arena);
}

// A page is named by the number of the last entry of the page before. False: answered.
static bool read_page(tob_registry_call *call, const char *page, uint64_t *ret_before) {
    uint64_t before = UINT64_MAX;
    if (*page && tob_parse_u64(page, INT64_MAX, &before) != TOB_OK) {
        tob_rpc_fail(call->call, TOB_INVALID, 0, "page: must be next_page of the page before");
        return false;
    }
    *ret_before = before;
    return true;
}

static void list_audit(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ListAuditRequest *request = (const Tobogganing__V1__ListAuditRequest *)message;
    Tobogganing__V1__ListAuditResponse response = TOBOGGANING__V1__LIST_AUDIT_RESPONSE__INIT;
    tob_registry_page page;
    uint64_t before = 0;
    char next[24];
    if (!read_page(call, request->page, &before) ||
        !tob_field_optional_id(call->call, "target", request->target) ||
        !tob_registry_page_begin(call, request->page_size, &page)) {
        return;
    }
    tob_error err = tob_registry_list_audit(call->service->registry, before, request->target,
                                            request->since_unix_ms, (uint32_t)page.max + 1, see_entry, &page);
    if (!tob_registry_page_end(call, err)) {
        return;
    }
    response.entries = (Tobogganing__V1__AuditEntry **)page.rows;
    response.n_entries = page.count;
    if (page.more) {
        snprintf(next, sizeof(next), "%" PRIu64, response.entries[page.count - 1]->number);
        response.next_page = next;
    }
    tob_rpc_reply(call->call, &response.base);
}

const tob_registry_method tob_audit_methods[] = {
    {"ListAudit", TOB_ACCESS_ADMIN, list_audit},
    {.name = NULL},
};
