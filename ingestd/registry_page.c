#include "ingestd/registry_fields.h"
#include "ingestd/registry_methods.h"

#define ROW_OVERHEAD_BYTES 64 // tags, lengths, times: what is no text

bool tob_registry_page_begin(tob_registry_call *call, uint32_t page_size, tob_registry_page *ret) {
    if (!tob_field_at_most(call->call, "page_size", page_size, TOB_REGISTRY_MAX_PAGE_ROWS)) {
        return false;
    }
    tob_registry_page page = {.arena = call->arena,
                              .max = page_size ? page_size : TOB_REGISTRY_DEFAULT_PAGE_ROWS};
    page.rows = tob_arena_alloc(page.arena, page.max * sizeof(*page.rows));
    if (!page.rows) {
        tob_registry_call_fail(call, TOB_NO_MEMORY, "page_size", "page");
        return false;
    }
    *ret = page;
    return true;
}

tob_error tob_registry_page_row(tob_registry_page *page, const ProtobufCMessageDescriptor *type,
                                size_t text_bytes, void **ret) {
    if (page->count == page->max || page->bytes > TOB_REGISTRY_MAX_PAGE_BYTES) {
        page->more = true;
        return TOB_CANCELLED;
    }
    ProtobufCMessage *row = tob_arena_alloc(page->arena, type->sizeof_message);
    if (!row) {
        return tob_arena_error(page->arena);
    }
    protobuf_c_message_init(type, row);
    page->rows[page->count++] = row;
    page->bytes += text_bytes + ROW_OVERHEAD_BYTES;
    *ret = row;
    return TOB_OK;
}

char *tob_registry_text(tob_arena *arena, const char *text) {
    char *copy = tob_arena_strdup(arena, text);
    return copy ? copy : (char *)protobuf_c_empty_string;
}

bool tob_registry_page_end(tob_registry_call *call, tob_error err) {
    if (err && err != TOB_CANCELLED) {
        tob_registry_call_fail(call, err, "page", "page");
        return false;
    }
    return true;
}
