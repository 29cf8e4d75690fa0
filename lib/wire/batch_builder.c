#include <stdlib.h>
#include <string.h>

#include "util/text.h"
#include "wire/batch.h"
#include "wire/varint.h"

// One kind of series with their credentials. The array grows by doubling; what it points to is in the arena.
typedef struct series_list {
    struct entry {
        void *series; // Tobogganing__V1__ClientSeries or …HeadendSeries
        char *credential;
        char *peer; // or NULL
    } * entries;
    size_t count;
    size_t capacity;
} series_list;

struct tob_batch_builder {
    tob_arena *arena;
    char agent_id[TOB_MAX_ID_BYTES + 1];
    uint64_t boot_id;
    const char *peer;
    series_list clients;
    series_list headends;
};

tob_error tob_batch_builder_new(const char *agent_id, uint64_t boot_id, size_t max_bytes,
                                tob_batch_builder **ret) {
    if (!tob_id_valid(agent_id, strlen(agent_id))) {
        return TOB_INVALID;
    }
    tob_batch_builder *builder = calloc(1, sizeof(*builder));
    if (!builder) {
        return TOB_NO_MEMORY;
    }
    tob_error err = tob_arena_new(max_bytes, &builder->arena);
    if (err) {
        free(builder);
        return err;
    }
    memcpy(builder->agent_id, agent_id, strlen(agent_id));
    builder->boot_id = boot_id;
    *ret = builder;
    return TOB_OK;
}

void tob_batch_builder_free(tob_batch_builder *builder) {
    if (!builder) {
        return;
    }
    tob_arena_free(builder->arena);
    free(builder->clients.entries);
    free(builder->headends.entries);
    free(builder);
}

void tob_batch_clear(tob_batch_builder *builder) {
    builder->clients.count = 0;
    builder->headends.count = 0;
    tob_arena_clear(builder->arena);
}

size_t tob_batch_client_series(const tob_batch_builder *builder) {
    return builder->clients.count;
}

size_t tob_batch_headend_series(const tob_batch_builder *builder) {
    return builder->headends.count;
}

void tob_batch_set_peer(tob_batch_builder *builder, const char *address) {
    builder->peer = address;
}

// A copy in the arena: the one of the entry before when the text is the same.
static char *share(tob_arena *arena, char *before, const char *text) {
    return before && strcmp(before, text) == 0 ? before : tob_arena_strdup(arena, text);
}

// Adds a series that is in the arena already.
static tob_error add_entry(tob_batch_builder *builder, series_list *list, void *series,
                           const char *credential) {
    if (builder->clients.count + builder->headends.count == TOB_MAX_SERIES_PER_BATCH) {
        return TOB_TOO_LARGE;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        struct entry *entries = realloc(list->entries, capacity * sizeof(*entries));
        if (!entries) {
            return TOB_NO_MEMORY;
        }
        list->entries = entries;
        list->capacity = capacity;
    }
    struct entry before = {.series = NULL};
    if (list->count) {
        before = list->entries[list->count - 1];
    }
    struct entry e = {.series = series, .credential = share(builder->arena, before.credential, credential)};
    if (builder->peer) {
        e.peer = share(builder->arena, before.peer, builder->peer);
    }
    if (!e.credential || (builder->peer && !e.peer)) {
        return tob_arena_error(builder->arena);
    }
    list->entries[list->count++] = e;
    return TOB_OK;
}

// How many samples from the first on have the same `present`. The structs begin alike.
#define RUN_LENGTH(samples, n, ret)                                                                          \
    do {                                                                                                     \
        (ret) = 1;                                                                                           \
        while ((ret) < (n) && (ret) < TOB_MAX_SAMPLES_PER_SERIES &&                                          \
               (samples)[ret].present == (samples)[0].present) {                                             \
            (ret)++;                                                                                         \
        }                                                                                                    \
    } while (0)

static int64_t *integer_column(tob_arena *arena, size_t n) {
    return tob_arena_alloc(arena, n * sizeof(int64_t));
}

static int64_t *client_column(tob_arena *arena, const tob_client_sample *samples, size_t n, unsigned metric,
                              size_t *ret_n) {
    if (!(samples[0].present & (1u << metric))) {
        *ret_n = 0;
        return NULL;
    }
    int64_t *values = integer_column(arena, n);
    if (!values) {
        return NULL;
    }
    values[0] = samples[0].values[metric];
    for (size_t i = 1; i < n; i++) {
        values[i] = samples[i].values[metric] - samples[i - 1].values[metric];
    }
    *ret_n = n;
    return values;
}

static tob_error client_series(tob_arena *arena, const char *id, bool headless,
                               const tob_client_sample *samples, size_t n,
                               Tobogganing__V1__ClientSeries **ret) {
    Tobogganing__V1__ClientSeries *s = tob_arena_alloc(arena, sizeof(*s));
    int64_t *times = integer_column(arena, n);
    char *id_copy = tob_arena_strdup(arena, id);
    if (!s || !times || !id_copy) {
        return tob_arena_error(arena);
    }
    tobogganing__v1__client_series__init(s);
    s->client_id = id_copy;
    s->headless = headless;
    s->time_unix_ms = times;
    s->n_time_unix_ms = n;
    for (size_t i = 0; i < n; i++) {
        times[i] = samples[i].time_unix_ms - (i ? samples[i - 1].time_unix_ms : 0);
    }
    s->bytes_sent = client_column(arena, samples, n, TOB_CLIENT_BYTES_SENT, &s->n_bytes_sent);
    s->bytes_received = client_column(arena, samples, n, TOB_CLIENT_BYTES_RECEIVED, &s->n_bytes_received);
    s->packets_sent = client_column(arena, samples, n, TOB_CLIENT_PACKETS_SENT, &s->n_packets_sent);
    s->packets_received =
        client_column(arena, samples, n, TOB_CLIENT_PACKETS_RECEIVED, &s->n_packets_received);
    s->connection_uptime_ms =
        client_column(arena, samples, n, TOB_CLIENT_CONNECTION_UPTIME, &s->n_connection_uptime_ms);
    *ret = s;
    return tob_arena_error(arena);
}

static double *headend_column(tob_arena *arena, const tob_headend_sample *samples, size_t n, unsigned metric,
                              size_t *ret_n) {
    if (!(samples[0].present & (1u << metric))) {
        *ret_n = 0;
        return NULL;
    }
    double *values = tob_arena_alloc(arena, n * sizeof(double));
    if (!values) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        values[i] = samples[i].values[metric];
    }
    *ret_n = n;
    return values;
}

static tob_error headend_series(tob_arena *arena, const char *id, const char *name,
                                const tob_headend_sample *samples, size_t n,
                                Tobogganing__V1__HeadendSeries **ret) {
    Tobogganing__V1__HeadendSeries *s = tob_arena_alloc(arena, sizeof(*s));
    int64_t *times = integer_column(arena, n);
    char *id_copy = tob_arena_strdup(arena, id);
    char *name_copy = tob_arena_strdup(arena, name ? name : "");
    if (!s || !times || !id_copy || !name_copy) {
        return tob_arena_error(arena);
    }
    tobogganing__v1__headend_series__init(s);
    s->headend_id = id_copy;
    s->name = name_copy;
    s->time_unix_ms = times;
    s->n_time_unix_ms = n;
    for (size_t i = 0; i < n; i++) {
        times[i] = samples[i].time_unix_ms - (i ? samples[i - 1].time_unix_ms : 0);
    }
    s->active_connections =
        headend_column(arena, samples, n, TOB_HEADEND_ACTIVE_CONNECTIONS, &s->n_active_connections);
    s->bandwidth_in = headend_column(arena, samples, n, TOB_HEADEND_BANDWIDTH_IN, &s->n_bandwidth_in);
    s->bandwidth_out = headend_column(arena, samples, n, TOB_HEADEND_BANDWIDTH_OUT, &s->n_bandwidth_out);
    s->cpu_usage = headend_column(arena, samples, n, TOB_HEADEND_CPU_USAGE, &s->n_cpu_usage);
    s->memory_usage = headend_column(arena, samples, n, TOB_HEADEND_MEMORY_USAGE, &s->n_memory_usage);
    *ret = s;
    return tob_arena_error(arena);
}

tob_error tob_batch_add_client(tob_batch_builder *builder, const char *client_id, const char *credential,
                               bool headless, const tob_client_sample *samples, size_t n) {
    size_t before = builder->clients.count;
    tob_error err = TOB_OK;
    while (n > 0 && !err) {
        size_t run = 0;
        RUN_LENGTH(samples, n, run);
        Tobogganing__V1__ClientSeries *series = NULL;
        err = client_series(builder->arena, client_id, headless, samples, run, &series);
        if (!err) {
            err = add_entry(builder, &builder->clients, series, credential);
        }
        samples += run;
        n -= run;
    }
    if (err) {
        builder->clients.count = before;
    }
    return err;
}

tob_error tob_batch_add_headend(tob_batch_builder *builder, const char *headend_id, const char *name,
                                const char *credential, const tob_headend_sample *samples, size_t n) {
    size_t before = builder->headends.count;
    tob_error err = TOB_OK;
    while (n > 0 && !err) {
        size_t run = 0;
        RUN_LENGTH(samples, n, run);
        Tobogganing__V1__HeadendSeries *series = NULL;
        err = headend_series(builder->arena, headend_id, name, samples, run, &series);
        if (!err) {
            err = add_entry(builder, &builder->headends, series, credential);
        }
        samples += run;
        n -= run;
    }
    if (err) {
        builder->headends.count = before;
    }
    return err;
}

// The arrays of pointers that protobuf-c packs from.
typedef struct pack_arrays {
    Tobogganing__V1__ClientSeries **clients;
    Tobogganing__V1__HeadendSeries **headends;
    char **credentials;
    size_t credential_count; // 1 when all are the same
    char **peers;
    size_t peer_count; // 0 when there are none
} pack_arrays;

static void pack_arrays_fini(pack_arrays *arrays) {
    free(arrays->clients);
    free(arrays->headends);
    free(arrays->credentials);
    free(arrays->peers);
}

static tob_error pack_arrays_init(const tob_batch_builder *builder, pack_arrays *arrays) {
    size_t clients = builder->clients.count;
    size_t n = clients + builder->headends.count;
    *arrays = (pack_arrays){.clients = calloc(n + 1, sizeof(*arrays->clients)),
                            .headends = calloc(n + 1, sizeof(*arrays->headends)),
                            .credentials = calloc(n + 1, sizeof(*arrays->credentials)),
                            .peers = calloc(n + 1, sizeof(*arrays->peers))};
    if (!arrays->clients || !arrays->headends || !arrays->credentials || !arrays->peers) {
        return TOB_NO_MEMORY;
    }
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        const struct entry *e =
            i < clients ? &builder->clients.entries[i] : &builder->headends.entries[i - clients];
        if (i < clients) {
            arrays->clients[i] = e->series;
        } else {
            arrays->headends[i - clients] = e->series;
        }
        arrays->credentials[i] = e->credential;
        arrays->peers[i] = e->peer ? e->peer : (char *)"";
        arrays->peer_count = e->peer ? n : arrays->peer_count;
        same = same && (e->credential == arrays->credentials[0] ||
                        strcmp(e->credential, arrays->credentials[0]) == 0);
    }
    arrays->credential_count = same && n && !arrays->peer_count ? 1 : n;
    return TOB_OK;
}

tob_error tob_batch_pack(tob_batch_builder *builder, uint64_t number, tob_buffer *out) {
    enum { BATCH_TAG = 1 << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED };
    pack_arrays arrays = {0};
    tob_error err = pack_arrays_init(builder, &arrays);
    if (err) {
        goto out;
    }
    Tobogganing__V1__Batch batch = TOBOGGANING__V1__BATCH__INIT;
    batch.agent_id = builder->agent_id;
    batch.boot_id = builder->boot_id;
    batch.number = number;
    batch.n_clients = builder->clients.count;
    batch.clients = arrays.clients;
    batch.n_headends = builder->headends.count;
    batch.headends = arrays.headends;
    Tobogganing__V1__SubmitRequest rest = TOBOGGANING__V1__SUBMIT_REQUEST__INIT;
    rest.n_credentials = arrays.credential_count;
    rest.credentials = arrays.credentials;
    rest.n_peers = arrays.peer_count;
    rest.peers = arrays.peers;

    // A message is the concatenation of its parts (protobuf encoding, "last one wins"): the batch is packed
    // straight behind its tag, so it is not copied through a bytes field.
    size_t batch_size = tobogganing__v1__batch__get_packed_size(&batch);
    size_t rest_size = tobogganing__v1__submit_request__get_packed_size(&rest);
    uint8_t *to = NULL;
    err = tob_buffer_reserve(out, 1 + TOB_VARINT_MAX_BYTES + batch_size + rest_size, &to);
    if (err) {
        goto out;
    }
    size_t n = 0;
    to[n++] = BATCH_TAG;
    n += tob_varint_put(to + n, batch_size);
    n += tobogganing__v1__batch__pack(&batch, to + n);
    n += tobogganing__v1__submit_request__pack(&rest, to + n);
    out->len += n;
out:
    pack_arrays_fini(&arrays);
    return err;
}
