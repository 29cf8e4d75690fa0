// "client export".
#include <stdio.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/csv.h"
#include "ctl/list.h"
#include "ctl/registry.h"

typedef struct export {
    tob_ctl_session session;
    bool with_key_hashes;
    bool begun;      // of JSON
    size_t exported; // clients
    size_t revoked;  // left out
}
export;

static void print_row(const export *e, const Tobogganing__V1__Client *client) {
    const char *const texts[] = {client->client_id,  client->name,       client->type,
                                 client->cluster_id, client->public_key, client->location};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (i) {
            putchar(',');
        }
        tob_csv_write_field(stdout, texts[i]);
    }
    if (e->with_key_hashes) {
        putchar(',');
        for (size_t i = 0; i < client->key_sha256.len; i++) {
            printf("%02x", client->key_sha256.data[i]);
        }
    }
    putchar('\n');
}

static int print_json_row(export *e, const Tobogganing__V1__Client *client) {
    json_t *json = tob_ctl_json(&client->base);
    if (!json) {
        return tob_ctl_no_memory();
    }
    printf(e->begun ? ",\n  " : "[\n  ");
    json_dumpf(json, stdout, JSON_COMPACT);
    json_decref(json);
    e->begun = true;
    return 0;
}

static int print_page(void *user, const ProtobufCMessage *page) {
    export *e = user;
    const Tobogganing__V1__ListClientsResponse *response = (const Tobogganing__V1__ListClientsResponse *)page;
    int status = 0;
    for (size_t i = 0; status == 0 && i < response->n_clients; i++) {
        const Tobogganing__V1__Client *client = response->clients[i];
        if (client->revoked_unix_ms) {
            e->revoked++;
        } else if (e->session.json) {
            status = print_json_row(e, client);
            e->exported++;
        } else {
            print_row(e, client);
            e->exported++;
        }
    }
    tob_ctl_progress("%zu clients", e->exported);
    return tob_ctl_finish(status);
}

static int run_export(export *e, const tob_command *command) {
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    request.with_key_hashes = e->with_key_hashes;
    e->session.compress = true;
    int status = tob_ctl_open(&e->session, command, TOB_CTL_ADMIN);
    if (status == 0 && !e->session.json) {
        printf("client_id,name,type,cluster_id,public_key,location%s\n",
               e->with_key_hashes ? ",api_key_sha256" : "");
    }
    if (status == 0) {
        status = tob_ctl_each_page(&e->session, TOB_CTL_SERVICE "ListClients", &request.base,
                                   &tobogganing__v1__list_clients_response__descriptor, print_page, e);
    }
    tob_ctl_progress("%s", "");
    if (status == 0 && e->session.json) {
        printf("%s\n]\n", e->begun ? "" : "[");
    }
    if (status == 0 && e->revoked) {
        fprintf(stderr, TOB_CTL_PROGRAM ": %zu revoked clients are left out\n", e->revoked);
    }
    tob_ctl_close(&e->session);
    return tob_ctl_finish(status);
}

int tob_ctl_client_export(const tob_ctl_command *self, int argc, char **argv) {
    export e = {.exported = 0};
    const tob_option options[] = {
        {.name = "with-key-hashes",
         .kind = TOB_OPTION_FLAG,
         .target = &e.with_key_hashes,
         .help = "Add api_key_sha256, with which clients keep their keys when they are imported again."},
        TOB_CTL_ADMIN_OPTIONS(&e.session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description =
            "Prints CSV as client import takes it. Revoked clients are left out: importing them would make "
            "their keys good again. Of a client with two keys the newest counts.",
        .examples = "  tobogganctl client export --with-key-hashes > clients.csv",
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status : run_export(&e, &command);
}
