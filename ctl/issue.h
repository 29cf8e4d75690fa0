// Certificates that a command asks for: the order, and the files that the answer goes to.
//
// Threads: main thread. Errors: printed on stderr, once; the return value is the exit status.
#ifndef TOB_CTL_ISSUE_H
#define TOB_CTL_ISSUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/certificates.pb-c.h"

#include "ctl/file.h"
#include "util/options.h"

#define TOB_CTL_MAX_CSR_BYTES (16u << 10)
#define TOB_CTL_MAX_DAYS      3650

typedef struct tob_ctl_issue {
    const char *csr_file;
    const char *cert_out;
    const char *key_out;
    const char *ca_out;
    uint64_t days;
    bool force;
    Tobogganing__V1__CertificateOrder order; // set by _begin
    tob_buffer csr;
    tob_ctl_outfile cert, key, ca;
} tob_ctl_issue;

#define TOB_CTL_ISSUE_OPTIONS(i)                                                                             \
    {.name = "csr",                                                                                          \
     .value = "FILE",                                                                                        \
     .kind = TOB_OPTION_STRING,                                                                              \
     .target = &(i)->csr_file,                                                                               \
     .help = "A certificate request (PKCS #10, PEM) for a key that you have. Default: a key is made."},      \
        {.name = "days",                                                                                     \
         .value = "N",                                                                                       \
         .kind = TOB_OPTION_NUMBER,                                                                          \
         .target = &(i)->days,                                                                               \
         .min = 1,                                                                                           \
         .max = TOB_CTL_MAX_DAYS,                                                                            \
         .help = "How long the certificate is good. Default: 365; never longer than the authority is."},     \
        {.name = "cert-out",                                                                                 \
         .value = "FILE",                                                                                    \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(i)->cert_out,                                                                           \
         .help = "Where the certificate goes (PEM); - is stdout."},                                          \
        {.name = "key-out",                                                                                  \
         .value = "FILE",                                                                                    \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(i)->key_out,                                                                            \
         .help = "Where the key that is made goes (PEM, mode 0600); - is stdout. It is told this once."},    \
        {.name = "ca-out",                                                                                   \
         .value = "FILE",                                                                                    \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(i)->ca_out,                                                                             \
         .help = "Where the authority's certificate goes too (PEM)."},                                       \
    {                                                                                                        \
        .name = "force", .kind = TOB_OPTION_FLAG, .target = &(i)->force, .help = "Replace files that exist." \
    }

// Where the command prints what else it has to say.
typedef enum tob_ctl_stdout {
    TOB_CTL_STDOUT_FREE,  // PEM may go there, and does unless a file is named
    TOB_CTL_STDOUT_SHELL, // there are assignments for a shell: PEM must go to files
    TOB_CTL_STDOUT_JSON,  // one JSON object: PEM is in it
} tob_ctl_stdout;

// tob_ctl_issue_begin checks the options, reads the request and creates the files.
TOB_MUST_USE int tob_ctl_issue_begin(tob_ctl_issue *issue, const tob_command *command, tob_ctl_stdout to);

// tob_ctl_issue_write writes the files. If it fails, the certificate's serial is told, for revoking it.
TOB_MUST_USE int tob_ctl_issue_write(tob_ctl_issue *issue, const Tobogganing__V1__IssuedCertificate *issued,
                                     tob_ctl_stdout to);

// tob_ctl_issue_json takes the key out of an issued certificate's JSON unless it shall be there (--key-out -).
void tob_ctl_issue_json(const tob_ctl_issue *issue, json_t *issued);

// tob_ctl_issue_fini removes the files that were not written. Accepts a zeroed one.
void tob_ctl_issue_fini(tob_ctl_issue *issue);

// Is an option of these given?
bool tob_ctl_issue_given(const tob_ctl_issue *issue);

#endif
