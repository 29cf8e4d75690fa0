#include "exporter/exposition.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "exporter/number.h"
#include "util/clock.h"
#include "wire/metrics.h"

// A line: the family's name, braces, the block, a space, the number, a newline.
#define MAX_NAME_BYTES 64
#define MAX_LINE_BYTES (MAX_NAME_BYTES + TOB_MIRROR_MAX_BLOCK_BYTES + TOB_NUMBER_MAX_BYTES + 8)
#define MAX_HELP_BYTES 256

_Static_assert(MAX_LINE_BYTES < TOB_EXPOSITION_MIN_ROOM, "a line always has room");
_Static_assert(2 * (MAX_NAME_BYTES + MAX_HELP_BYTES) < TOB_EXPOSITION_MIN_ROOM, "so have HELP and TYPE");

#define LAST_CHECK_IN (-1)

typedef struct family {
    unsigned part;
    enum { KIND_GAUGE, KIND_COUNTER, KIND_EXPIRIES, KIND_ROWS } kind;
    int which; // a tob_gauge, a CounterFamily, or a value of wire/metrics.h or LAST_CHECK_IN
    const char *name;
    const char *help;
} family;

#define ROWS(part, metric)                                                                                   \
    { part, KIND_ROWS, metric, NULL, NULL } // names and help: wire/metrics.c
#define COUNTER(which, name, help)                                                                           \
    {                                                                                                        \
        TOB_PART_MANAGER, KIND_COUNTER, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_##which,             \
            "tobogganing_manager_" name, help                                                                \
    }

static const family families[] = {
    {TOB_PART_MANAGER, KIND_GAUGE, TOB_GAUGE_CLUSTERS, "tobogganing_manager_clusters_total",
     "Total registered clusters"},
    {TOB_PART_MANAGER, KIND_GAUGE, TOB_GAUGE_CLIENTS, "tobogganing_manager_clients_total",
     "Total registered clients"},
    COUNTER(HTTP_REQUESTS, "http_requests_total", "HTTP requests processed"),
    COUNTER(AUTH_ATTEMPTS, "auth_attempts_total", "Authentication attempts"),
    COUNTER(CERTIFICATES_ISSUED, "certificates_issued_total", "Certificates issued"),
    COUNTER(UNKNOWN_METRICS, "unknown_metrics_total", "Metric names in JSON reports that nobody knows"),
    {TOB_PART_MANAGER, KIND_GAUGE, TOB_GAUGE_ON_PREVIOUS_KEY, "tobogganing_manager_clients_on_previous_key",
     "Clients that were last heard from with the key before their newest"},
    {TOB_PART_MANAGER, KIND_EXPIRIES, 0, "tobogganing_manager_certificate_expiry_days",
     "Days until the first certificate of a type expires"},
    ROWS(TOB_PART_HEADEND, TOB_HEADEND_ACTIVE_CONNECTIONS),
    ROWS(TOB_PART_HEADEND, TOB_HEADEND_BANDWIDTH_IN),
    ROWS(TOB_PART_HEADEND, TOB_HEADEND_BANDWIDTH_OUT),
    ROWS(TOB_PART_HEADEND, TOB_HEADEND_CPU_USAGE),
    ROWS(TOB_PART_HEADEND, TOB_HEADEND_MEMORY_USAGE),
    {TOB_PART_HEADEND, KIND_ROWS, LAST_CHECK_IN, "tobogganing_headend_last_check_in_timestamp",
     "Last check-in time"},
    ROWS(TOB_PART_CLIENT, TOB_CLIENT_BYTES_SENT),
    ROWS(TOB_PART_CLIENT, TOB_CLIENT_BYTES_RECEIVED),
    ROWS(TOB_PART_CLIENT, TOB_CLIENT_PACKETS_SENT),
    ROWS(TOB_PART_CLIENT, TOB_CLIENT_PACKETS_RECEIVED),
    ROWS(TOB_PART_CLIENT, TOB_CLIENT_CONNECTION_UPTIME),
    {TOB_PART_CLIENT, KIND_ROWS, LAST_CHECK_IN, "tobogganing_client_last_check_in_timestamp",
     "Last check-in time"},
};

#define FAMILIES (sizeof(families) / sizeof(families[0]))

static const char *family_name(const family *f) {
    if (f->name) {
        return f->name;
    }
    return f->part == TOB_PART_CLIENT ? tob_client_metrics[f->which].family
                                      : tob_headend_metrics[f->which].family;
}

static const char *family_help(const family *f) {
    if (f->help) {
        return f->help;
    }
    return f->part == TOB_PART_CLIENT ? tob_client_metrics[f->which].help
                                      : tob_headend_metrics[f->which].help;
}

static char *put(char *to, const void *bytes, size_t n) {
    memcpy(to, bytes, n);
    return to + n;
}

static char *put_text(char *to, const char *text) {
    return put(to, text, strlen(text));
}

// In HELP \ and newline are escaped, quotes are not.
static char *put_help(char *to, const char *help) {
    for (; *help; help++) {
        if (*help == '\\' || *help == '\n') {
            *to++ = '\\';
        }
        *to++ = *help == '\n' ? 'n' : *help;
    }
    return to;
}

static char *put_head(char *to, const family *f) {
    const char *name = family_name(f);
    assert(strlen(name) < MAX_NAME_BYTES && 2 * strlen(family_help(f)) < MAX_HELP_BYTES);
    to = put_text(put_text(put_text(to, "# HELP "), name), " ");
    to = put_text(put_help(to, family_help(f)), "\n# TYPE ");
    return put_text(put_text(to, name), f->kind == KIND_COUNTER ? " counter\n" : " gauge\n");
}

static char *put_value(char *to, const family *f, const tob_mirror_chunk *c, uint32_t row) {
    if (f->which == LAST_CHECK_IN) {
        return tob_write_thousandths(to, c->last_check_in_unix_ms[row]);
    }
    tob_value value = c->values[f->which][row];
    if (f->part == TOB_PART_HEADEND) {
        return tob_write_double(to, value.real);
    }
    return f->which == TOB_CLIENT_CONNECTION_UPTIME ? tob_write_thousandths(to, value.integer)
                                                    : tob_write_u64(to, value.integer);
}

// Writes lines of one chunk from e->row on; sets e->row behind the last row looked at.
static char *put_rows(tob_exposition *e, const family *f, const tob_mirror_chunk *c, char *to,
                      const char *end) {
    char prefix[MAX_NAME_BYTES + 1];
    size_t prefix_len = (size_t)(put_text(put_text(prefix, family_name(f)), "{") - prefix);
    unsigned bit = f->which == LAST_CHECK_IN ? 0 : 1u << f->which;
    uint32_t row = e->row;
    for (; row < TOB_MIRROR_CHUNK_ROWS && end - to >= MAX_LINE_BYTES; row++) {
        if (c->state[row] != TOB_ROW_SHOWN || (c->present[row] & bit) != bit || c->born[row] > e->births) {
            continue;
        }
        to = put(to, prefix, prefix_len);
        to = put(to, c->block[row], c->block_len[row]);
        *to++ = '}';
        *to++ = ' ';
        to = put_value(to, f, c, row);
        *to++ = '\n';
    }
    e->row = row;
    return to;
}

static char *put_chunks(tob_exposition *e, const family *f, char *to, const char *end, bool *done) {
    tob_source_kind kind = f->part == TOB_PART_CLIENT ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND;
    while (e->chunk < tob_mirror_chunks(e->mirror, kind)) {
        const tob_mirror_chunk *c = tob_mirror_read_lock(e->mirror, kind, e->chunk);
        to = put_rows(e, f, c, to, end);
        tob_mirror_read_unlock(e->mirror, kind, e->chunk);
        if (e->row < TOB_MIRROR_CHUNK_ROWS) {
            return to; // no room
        }
        e->row = 0;
        e->chunk++;
    }
    *done = true;
    return to;
}

static char *put_counters(tob_exposition *e, const family *f, char *to, const char *end, bool *done) {
    while (end - to >= MAX_LINE_BYTES) {
        tob_manager_counter c = {0};
        if (tob_manager_next(e->manager, (Tobogganing__V1__CounterFamily)f->which, &e->counter, &c)) {
            *done = true;
            return to;
        }
        to = put_text(to, family_name(f));
        if (c.block_len) {
            *to++ = '{';
            to = put(to, c.block, c.block_len);
            *to++ = '}';
        }
        *to++ = ' ';
        to = tob_write_u64(to, c.value);
        *to++ = '\n';
    }
    return to;
}

static char *put_gauge(tob_exposition *e, const family *f, char *to, bool *done) {
    to = put_text(put_text(to, family_name(f)), " ");
    to = tob_write_u64(to, tob_manager_gauge(e->manager, (tob_gauge)f->which));
    *to++ = '\n';
    *done = true;
    return to;
}

// Days from now, negative when it is over, to ten-thousandths (nine seconds).
static double days_until(uint64_t unix_s) {
    double days = ((double)unix_s - (double)tob_clock_unix_ms() / 1000) / 86400;
    return nearbyint(days * 10000) / 10000;
}

static char *put_expiries(tob_exposition *e, const family *f, char *to, const char *end, bool *done) {
    for (; e->counter < TOB_CERTIFICATE_TYPES; e->counter++) {
        tob_certificate_type type = (tob_certificate_type)e->counter;
        uint64_t unix_s = tob_manager_expiry(e->manager, type);
        if (end - to < MAX_LINE_BYTES) {
            return to;
        }
        if (unix_s) {
            to = put_text(put_text(to, family_name(f)), "{type=\"");
            to = put_text(put_text(to, tob_certificate_type_name(type)), "\"} ");
            to = tob_write_double(to, days_until(unix_s));
            *to++ = '\n';
        }
    }
    *done = true;
    return to;
}

static char *put_lines(tob_exposition *e, const family *f, char *to, const char *end, bool *done) {
    switch (f->kind) {
    case KIND_GAUGE: return end - to < MAX_LINE_BYTES ? to : put_gauge(e, f, to, done);
    case KIND_COUNTER: return put_counters(e, f, to, end, done);
    case KIND_EXPIRIES: return put_expiries(e, f, to, end, done);
    case KIND_ROWS: return put_chunks(e, f, to, end, done);
    }
    return to;
}

static void next_family(tob_exposition *e) {
    e->family++;
    e->begun = false;
    e->chunk = 0;
    e->row = 0;
    e->counter = 0;
}

void tob_exposition_init(tob_exposition *exposition, tob_mirror *mirror, tob_manager *manager,
                         unsigned parts) {
    *exposition = (tob_exposition){.mirror = mirror,
                                   .manager = manager,
                                   .parts = parts,
                                   .births = tob_mirror_births(mirror)};
}

size_t tob_exposition_read(tob_exposition *e, char *to, size_t room) {
    assert(room >= TOB_EXPOSITION_MIN_ROOM);
    char *at = to;
    const char *end = to + room;
    while (e->family < FAMILIES) {
        const family *f = &families[e->family];
        if (!(f->part & e->parts)) {
            next_family(e);
            continue;
        }
        if (!e->begun) {
            if (end - at < 2 * (MAX_NAME_BYTES + MAX_HELP_BYTES)) {
                break;
            }
            at = put_head(at, f);
            e->begun = true;
        }
        bool done = false;
        at = put_lines(e, f, at, end, &done);
        if (!done) {
            break;
        }
        next_family(e);
    }
    return (size_t)(at - to);
}
