// Certificates of the fleet, and of its authority.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/certificates.pb-c.h"

#include "ctl/issue.h"
#include "ctl/list.h"
#include "ctl/registry.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SERVICE      "/tobogganing.v1.Certificates/"
#define MAX_NAMES    32

// Cuts "NAME,NAME…" in place. Returns how many there are, MAX_NAMES + 1 for more than fit.
static size_t split_names(char *list, char *names[MAX_NAMES + 1]) {
    size_t count = 0;
    for (char *name = strsep(&list, ","); name && count <= MAX_NAMES; name = strsep(&list, ",")) {
        if (*name) {
            names[count++] = name;
        }
    }
    return count;
}

static int print_issued(const tob_ctl_session *session, tob_ctl_issue *issue,
                        const Tobogganing__V1__IssuedCertificate *issued) {
    char at[TOB_TIME_TEXT_BYTES];
    tob_ctl_stdout to = session->json ? TOB_CTL_STDOUT_JSON : TOB_CTL_STDOUT_FREE;
    int status = tob_ctl_issue_write(issue, issued, to);
    if (session->json) {
        json_t *json = tob_ctl_json(&issued->base);
        tob_ctl_issue_json(issue, json);
        int printed = tob_ctl_print_json(json);
        return status ? status : printed;
    }
    if (status == 0 && issue->cert_out && strcmp(issue->cert_out, "-") != 0) {
        printf("%s is issued, serial %s, good until %s\n", issued->certificate->subject,
               issued->certificate->serial, tob_ctl_time(issued->certificate->not_after_unix_s * 1000, at));
    }
    return tob_ctl_finish(status);
}

typedef struct generation {
    tob_ctl_session session;
    const char *type, *subject, *names;
    tob_ctl_issue issue;
} generation;

static int run_generate(generation *g, const tob_command *command) {
    Tobogganing__V1__IssueCertificateRequest request = TOBOGGANING__V1__ISSUE_CERTIFICATE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    char *list = NULL, *names[MAX_NAMES + 1];
    int status = 0;
    if (!g->type || !g->subject) {
        return tob_options_error(command, g->type ? "subject" : "type", "is needed");
    }
    list = strdup(tob_ctl_given(g->names));
    if (!list) {
        return tob_ctl_no_memory();
    }
    request.names = names;
    request.n_names = split_names(list, names);
    if (request.n_names > MAX_NAMES) {
        status = tob_options_error(command, "name", "has more than %d names", MAX_NAMES);
        goto out;
    }
    status =
        tob_ctl_issue_begin(&g->issue, command, g->session.json ? TOB_CTL_STDOUT_JSON : TOB_CTL_STDOUT_FREE);
    if (status) {
        goto out;
    }
    request.type = tob_ctl_given(g->type);
    request.subject = tob_ctl_given(g->subject);
    request.order = &g->issue.order;
    status = tob_ctl_ask(&g->session, command, TOB_CTL_ADMIN, SERVICE "Issue", &request.base,
                         &tobogganing__v1__issued_certificate__descriptor, TOB_OK, &response);
    if (status == 0) {
        status = print_issued(&g->session, &g->issue, (const Tobogganing__V1__IssuedCertificate *)response);
    }
out:
    tob_ctl_free_secret(response);
    tob_ctl_issue_fini(&g->issue);
    free(list);
    return status;
}

static int generate(const tob_ctl_command *self, int argc, char **argv) {
    generation g = {.type = NULL};
    const tob_option options[] = {
        {.name = "type",
         .value = "TYPE",
         .kind = TOB_OPTION_STRING,
         .target = &g.type,
         .help = "client, headend (a server that is a client too) or server."},
        {.name = "subject",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &g.subject,
         .help = "The id that it is for: the common name."},
        {.name = "name",
         .value = "NAME[,NAME…]",
         .kind = TOB_OPTION_STRING,
         .target = &g.names,
         .help = "DNS names and IP addresses. Default: the subject, when it can be one."},
        TOB_CTL_ISSUE_OPTIONS(&g.issue),
        TOB_CTL_ADMIN_OPTIONS(&g.session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description = "The certificate is printed unless --cert-out says where it goes.",
        .examples =
            "  tobogganctl cert generate --type server --subject ingest --name ingest.example.com,192.0.2.1 "
            "\\\n"
            "    --cert-out ingest.crt --key-out ingest.key\n"
            "  tobogganctl cert generate --type client --subject laptop-7 --csr laptop-7.csr > laptop-7.crt",
    };
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status : run_generate(&g, &command);
}

static int revoke(const tob_ctl_command *self, int argc, char **argv) {
    tob_ctl_session session = {.client = NULL};
    const char *reason = NULL;
    const tob_option options[] = {
        {.name = "reason",
         .value = "REASON",
         .kind = TOB_OPTION_STRING,
         .target = &reason,
         .help = "key_compromise, superseded, cessation_of_operation, privilege_withdrawn or unspecified. "
                 "Default: the "
                 "last."},
        TOB_CTL_ADMIN_OPTIONS(&session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_ARGUMENT("SERIAL"),
        TOB_CTL_OPTIONS(options),
        .description = "It is in the revocation list from now on; see cert crl.",
    };
    char *serial = NULL;
    int status = tob_ctl_parse(&command, argc, argv, &serial);
    if (status >= 0) {
        return status;
    }
    Tobogganing__V1__RevokeCertificateRequest request = TOBOGGANING__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.serial = serial;
    request.reason = tob_ctl_given(reason);
    status = tob_ctl_ask(&session, &command, TOB_CTL_ADMIN, SERVICE "Revoke", &request.base,
                         &tobogganing__v1__certificate__descriptor, TOB_OK, &response);
    if (status == 0 && session.json) {
        status = tob_ctl_print_json(tob_ctl_json(response));
    } else if (status == 0) {
        tob_ctl_print_revoked(serial, response);
        status = tob_ctl_finish(0);
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

// One of the documents that anybody may have.
typedef struct document {
    tob_ctl_session session;
    const char *out;
    bool der;
    bool force;
} document;

static int write_document(const document *d, const void *bytes, size_t len) {
    tob_ctl_outfile file;
    int status = tob_ctl_outfile_open(&file, d->out ? d->out : "-", 0644, d->force);
    status = status ? status : tob_ctl_outfile_write(&file, bytes, len);
    status = status ? status : tob_ctl_outfile_keep(&file);
    tob_ctl_outfile_fini(&file);
    return status;
}

static int ask_document(document *d, const tob_command *command, const char *method,
                        const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type) {
    ProtobufCMessage *response = NULL;
    int status = tob_ctl_ask(&d->session, command, TOB_CTL_NONE, method, request, type, TOB_OK, &response);
    if (status == 0 && d->session.json) {
        status = tob_ctl_print_json(tob_ctl_json(response));
    } else if (status == 0 && type == &tobogganing__v1__authority__descriptor) {
        const char *pem = ((const Tobogganing__V1__Authority *)response)->pem;
        status = write_document(d, pem, strlen(pem));
    } else if (status == 0) {
        const Tobogganing__V1__RevocationList *list = (const Tobogganing__V1__RevocationList *)response;
        status = d->der ? write_document(d, list->der.data, list->der.len)
                        : write_document(d, list->pem, strlen(list->pem));
    }
    protobuf_c_message_free_unpacked(response, NULL);
    return status;
}

#define DOCUMENT_OPTIONS(d)                                                                                  \
    {.name = "out",                                                                                          \
     .value = "FILE",                                                                                        \
     .kind = TOB_OPTION_STRING,                                                                              \
     .target = &(d)->out,                                                                                    \
     .help = "Where it goes. Default: stdout."},                                                             \
    {                                                                                                        \
        .name = "force", .kind = TOB_OPTION_FLAG, .target = &(d)->force,                                     \
        .help = "Replace a file that exists."                                                                \
    }

static int crl(const tob_ctl_command *self, int argc, char **argv) {
    document d = {.out = NULL};
    const tob_option options[] = {
        DOCUMENT_OPTIONS(&d),
        {.name = "der", .kind = TOB_OPTION_FLAG, .target = &d.der, .help = "DER instead of PEM."},
        TOB_CTL_SERVER_OPTIONS(&d.session),
    };
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description = "It is good for a day. Needs no credential.",
        .examples = "  tobogganctl cert crl --force --out /etc/haproxy/fleet.crl",
    };
    Tobogganing__V1__GetRevocationListRequest request = TOBOGGANING__V1__GET_REVOCATION_LIST_REQUEST__INIT;
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status
                       : ask_document(&d, &command, SERVICE "GetRevocationList", &request.base,
                                      &tobogganing__v1__revocation_list__descriptor);
}

static int ca(const tob_ctl_command *self, int argc, char **argv) {
    document d = {.out = NULL};
    const tob_option options[] = {DOCUMENT_OPTIONS(&d), TOB_CTL_SERVER_OPTIONS(&d.session)};
    const tob_command command = {
        TOB_CTL_COMMAND(self),
        TOB_CTL_OPTIONS(options),
        .description = "Needs no credential. Compare its fingerprint (--json) with one that you trust.",
    };
    Tobogganing__V1__GetAuthorityRequest request = TOBOGGANING__V1__GET_AUTHORITY_REQUEST__INIT;
    int status = tob_ctl_parse(&command, argc, argv, NULL);
    return status >= 0 ? status
                       : ask_document(&d, &command, SERVICE "GetAuthority", &request.base,
                                      &tobogganing__v1__authority__descriptor);
}

static const tob_ctl_column columns[] = {
    {"SERIAL", "serial"},           {"TYPE", "type"},
    {"SUBJECT", "subject"},         {"ENDS", "not_after_unix_s"},
    {"REVOKED", "revoked_unix_ms"}, {"REASON", "reason"},
};

static const tob_ctl_list list = {
    .method = SERVICE "List",
    .request_type = &tobogganing__v1__list_certificates_request__descriptor,
    .response_type = &tobogganing__v1__list_certificates_response__descriptor,
    .columns = columns,
    .column_count = COUNT(columns),
    .filter = "subject",
    .filter_help = "Only those of this subject.",
};

static const tob_ctl_id_command get = {
    .argument = "SERIAL",
    .method = SERVICE "Get",
    .request_type = &tobogganing__v1__certificate_serial__descriptor,
    .response_type = &tobogganing__v1__certificate__descriptor,
    .credential = TOB_CTL_ADMIN,
};

static const tob_ctl_command commands[] = {
    {"cert generate", generate, "issue a certificate", NULL},
    {"cert get", tob_ctl_run_id, "print a certificate and what is known of it", &get},
    {"cert list", tob_ctl_run_list, "list the certificates that were issued", &list},
    {"cert revoke", revoke, "revoke a certificate", NULL},
    {"cert crl", crl, "print the list of the revoked certificates", NULL},
    {"cert ca", ca, "print the authority's certificate", NULL},
};
const tob_ctl_commands tob_ctl_cert_commands = {commands, COUNT(commands)};
