// "client import".
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/csv.h"
#include "ctl/file.h"
#include "ctl/import_rows.h"
#include "ctl/import_send.h"
#include "ctl/list.h"
#include "ctl/registry.h"

#define KEYS_LINE_BYTES  (TOB_MAX_ID_BYTES + TOB_API_KEY_BYTES + 2)
#define KEYS_BLOCK_BYTES 16384

typedef struct importing {
    tob_ctl_session session;
    const tob_command *command;
    const char *keys_out;
    bool skip_existing, force, dry_run;
    tob_buffer text; // of the file
    tob_import_rows rows;
    bool *left_out; // of each row: it is registered
    size_t left_out_count;
    tob_ctl_outfile keys;
} importing;

static bool keys_on_stdout(const importing *m) {
    return m->keys_out && strcmp(m->keys_out, "-") == 0;
}

static int read_file(importing *m, const char *path) {
    tob_buffer_init(&m->text, TOB_IMPORT_MAX_FILE_BYTES + 1);
    int status = tob_ctl_read_file(path, &m->text);
    if (status) {
        return status;
    }
    tob_error err = tob_import_rows_read(path, (char *)m->text.data, m->text.len, &m->rows);
    if (err == TOB_NO_MEMORY) {
        return tob_ctl_no_memory();
    }
    if (err) {
        fprintf(stderr, TOB_CTL_PROGRAM ": nothing was sent\n");
    }
    return err ? 1 : 0;
}

// --- those that are registered ----------------------------------------------------------------------------

static int mark_page(void *user, const ProtobufCMessage *page) {
    importing *m = user;
    const Tobogganing__V1__ListClientsResponse *response = (const Tobogganing__V1__ListClientsResponse *)page;
    for (size_t i = 0; i < response->n_clients; i++) {
        const tob_import_row *row = tob_import_rows_find(&m->rows, response->clients[i]->client_id);
        if (row && !m->left_out[row - m->rows.rows]) {
            m->left_out[row - m->rows.rows] = true;
            m->left_out_count++;
        }
    }
    return 0;
}

// Finds the rows whose client is registered: they need no key, and a dry run tells of them.
static int find_registered(importing *m) {
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    m->left_out = calloc(m->rows.count ? m->rows.count : 1, sizeof(m->left_out[0]));
    return m->left_out ? tob_ctl_each_page(&m->session, TOB_CTL_SERVICE "ListClients", &request.base,
                                           &tobogganing__v1__list_clients_response__descriptor, mark_page, m)
                       : tob_ctl_no_memory();
}

// --- keys -------------------------------------------------------------------------------------------------

// Writes "client_id,api_key" lines of the keys that were made, but for the rows in `left_out`.
static int write_keys(importing *m, tob_ctl_outfile *to) {
    char block[KEYS_BLOCK_BYTES];
    size_t len = (size_t)snprintf(block, sizeof(block), "client_id,api_key\n");
    int status = 0;
    for (size_t i = 0; status == 0 && i < m->rows.count; i++) {
        const tob_import_row *row = &m->rows.rows[i];
        if (tob_import_row_is_made(&m->rows, row) && !(m->left_out && m->left_out[i])) {
            len +=
                (size_t)snprintf(block + len, sizeof(block) - len, "%s,%s\n", row->client_id, row->api_key);
        }
        if (sizeof(block) - len < KEYS_LINE_BYTES) {
            status = tob_ctl_outfile_write(to, block, len);
            len = 0;
        }
    }
    status = status ? status : tob_ctl_outfile_write(to, block, len);
    explicit_bzero(block, sizeof(block));
    return status ? status : tob_ctl_outfile_sync(to);
}

// Nothing may be registered with a key that is not safe.
static int save_keys(void *user) {
    importing *m = user;
    return m->rows.key_count ? write_keys(m, &m->keys) : 0;
}

static int prepare_keys(importing *m) {
    size_t count = tob_import_rows_without_key(&m->rows);
    if (count == 0) {
        return 0;
    }
    if (!m->keys_out) {
        return tob_options_error(
            m->command, "keys-out",
            "is needed: %zu clients have no key in the file, and those that are made are told once", count);
    }
    int status = tob_ctl_outfile_open(&m->keys, m->keys_out, 0600, m->force);
    if (status == 0 && tob_import_rows_make_keys(&m->rows)) {
        status = tob_ctl_no_memory();
    }
    return status;
}

// Marks the rows whose key was made for nothing, because the client was registered since we looked. Returns how many.
static size_t mark_late(importing *m, const Tobogganing__V1__ImportClientsResponse *response) {
    size_t marked = 0;
    for (size_t i = 0; m->left_out && i < response->n_skipped; i++) {
        const tob_import_row *row = tob_import_rows_find(&m->rows, response->skipped[i]);
        if (row && tob_import_row_is_made(&m->rows, row)) {
            m->left_out[row - m->rows.rows] = true;
            marked++;
        }
    }
    return marked;
}

// Nobody else has the keys of what was added: a file that can't get its name stays under the other.
static int keep_unnamed(importing *m, int status) {
    if (!m->keys.kept && !keys_on_stdout(m)) {
        m->keys.kept = true;
        fprintf(stderr, TOB_CTL_PROGRAM ": the clients were added, and their keys are in %s\n",
                m->keys.temporary);
    }
    return status;
}

// The import is done: the file of keys gets its name, without those that were made for nothing.
static int keep_keys(importing *m, const Tobogganing__V1__ImportClientsResponse *response) {
    int status = tob_ctl_outfile_keep(&m->keys);
    size_t late = mark_late(m, response);
    if (status) {
        return keep_unnamed(m, status);
    }
    if (late == 0) {
        return 0;
    }
    if (keys_on_stdout(m)) {
        fprintf(stderr,
                TOB_CTL_PROGRAM ": %zu of the keys are not good: the clients were registered meanwhile\n",
                late);
        return 0;
    }
    tob_ctl_outfile again;
    status = tob_ctl_outfile_open(&again, m->keys_out, 0600, true);
    status = status ? status : write_keys(m, &again);
    status = status ? status : tob_ctl_outfile_keep(&again);
    tob_ctl_outfile_fini(&again);
    return status;
}

// --- the import -------------------------------------------------------------------------------------------

static int print_result(const importing *m, size_t added, size_t left_out) {
    if (m->session.json) {
        return tob_ctl_print_json(json_pack("{s:I, s:I, s:I, s:b}", "added", (json_int_t)added, "skipped",
                                            (json_int_t)left_out, "keys_made",
                                            (json_int_t)(m->dry_run ? 0 : m->rows.key_count), "dry_run",
                                            (int)m->dry_run));
    }
    FILE *to = keys_on_stdout(m) ? stderr : stdout;
    fprintf(to, m->dry_run ? "%zu clients would be added" : "%zu clients were added", added);
    if (left_out) {
        fprintf(to, ", %zu are registered and were left out", left_out);
    }
    fprintf(to, "\n");
    return tob_ctl_finish(0);
}

static int report_registered(const importing *m) {
    size_t shown = 0;
    for (size_t i = 0; i < m->rows.count && shown < TOB_IMPORT_MAX_PROBLEMS; i++) {
        if (m->left_out[i]) {
            fprintf(stderr, TOB_CTL_PROGRAM ": %s (line %" PRIu32 ") is registered\n",
                    m->rows.rows[i].client_id, m->rows.rows[i].line);
            shown++;
        }
    }
    fprintf(stderr, TOB_CTL_PROGRAM ": %zu of the clients are registered; --skip-existing leaves them out\n",
            m->left_out_count);
    return 1;
}

// What a failed import leaves of the keys: _fini removes them unless somebody may need them.
static int failed(importing *m, int status, bool unsure) {
    bool on_stdout = keys_on_stdout(m);
    if (unsure) {
        bool in_file = m->rows.key_count && !on_stdout;
        m->keys.kept = true;
        fprintf(stderr, TOB_CTL_PROGRAM ": it may have been carried out all the same: see client list%s%s\n",
                in_file ? "; the keys are in " : "", in_file ? m->keys.temporary : "");
    } else if (m->rows.key_count && on_stdout) {
        fprintf(stderr,
                TOB_CTL_PROGRAM ": nothing was added, and keys that were printed are good for nothing\n");
    }
    return status;
}

static int send_rows(importing *m) {
    Tobogganing__V1__ImportClientsResponse *response = NULL;
    bool unsure = false;
    size_t left_out = m->left_out_count;
    if (m->left_out && left_out) {
        tob_import_rows_drop(&m->rows, m->left_out);
        memset(m->left_out, 0, m->rows.count * sizeof(m->left_out[0]));
    }
    int status = prepare_keys(m);
    if (status) {
        return status;
    }
    if (m->rows.count == 0) {
        return print_result(m, 0, left_out);
    }
    status = tob_import_send(&m->session, &m->rows, m->skip_existing, save_keys, m, &response, &unsure);
    if (status) {
        return failed(m, status, unsure);
    }
    left_out += m->rows.count - (response->added < m->rows.count ? response->added : m->rows.count);
    status = keep_keys(m, response);
    if (status == 0) {
        status = print_result(m, response->added, left_out);
    }
    tobogganing__v1__import_clients_response__free_unpacked(response, NULL);
    return status;
}

static int run_import(importing *m, const char *path) {
    if (m->session.json && keys_on_stdout(m)) {
        return tob_options_error(m->command, "keys-out", "- goes without --json");
    }
    int status = read_file(m, path);
    if (status) {
        return status;
    }
    if (!m->dry_run && !m->skip_existing && !m->keys_out && tob_import_rows_without_key(&m->rows)) {
        return prepare_keys(m); // says what is needed
    }
    m->session.compress = true;
    status = tob_ctl_open(&m->session, m->command, TOB_CTL_ADMIN);
    if (status == 0 && (m->dry_run || (m->skip_existing && tob_import_rows_without_key(&m->rows)))) {
        status = find_registered(m);
    }
    if (status == 0 && m->dry_run) {
        status = m->left_out_count && !m->skip_existing
                     ? report_registered(m)
                     : print_result(m, m->rows.count - m->left_out_count, m->left_out_count);
    } else if (status == 0) {
        status = send_rows(m);
    }
    tob_ctl_close(&m->session);
    return status;
}

int tob_ctl_client_import(const tob_ctl_command *self, int argc, char **argv) {
    importing m = {.keys_out = NULL};
    const tob_option options[] = {
        {.name = "keys-out",
         .value = "FILE",
         .kind = TOB_OPTION_STRING,
         .target = &m.keys_out,
         .help =
             "Where the keys that are made go: CSV of client_id and api_key, mode 0600, on the disk before "
             "anything is registered; - is stdout. Needed when a client has no key in the file."},
        {.name = "skip-existing",
         .kind = TOB_OPTION_FLAG,
         .target = &m.skip_existing,
         .help = "Leave out clients that are registered. Default: then nothing is added."},
        {.name = "dry-run",
         .kind = TOB_OPTION_FLAG,
         .target = &m.dry_run,
         .help = "Check the file, and its ids against the registry; add nothing."},
        {.name = "force",
         .kind = TOB_OPTION_FLAG,
         .target = &m.force,
         .help = "Replace a file of keys that exists."},
        TOB_CTL_ADMIN_OPTIONS(&m.session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("FILE|-"),
        TOB_CTL_OPTIONS(options),
        .description =
            "FILE is CSV (RFC 4180; at most 250 000 clients and 256 MiB). Its first line names the columns, "
            "in any "
            "order: client_id, and if wanted name, type, cluster_id, public_key, location, and api_key or "
            "api_key_sha256. A client without either gets a key. All clients are added, or none: then every "
            "mistake in the file is told, the first 20 with their places. The last call may take a "
            "millisecond more for each client than --timeout says.",
        .examples = "  tobogganctl client import fleet.csv --keys-out fleet-keys.csv",
    };
    char *path = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &path);
    if (status >= 0) {
        return status;
    }
    m.command = &command;
    status = run_import(&m, path);
    tob_import_rows_fini(&m.rows);
    tob_ctl_outfile_fini(&m.keys);
    if (m.text.data) {
        explicit_bzero(m.text.data, m.text.len);
    }
    tob_buffer_fini(&m.text);
    free(m.left_out);
    return status;
}
