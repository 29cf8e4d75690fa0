#include "ctl/issue.h"

#include <stdio.h>
#include <string.h>

#include "ctl/command.h"

static bool is_stdout(const char *path) {
    return path && strcmp(path, "-") == 0;
}

static bool same_file(const char *a, const char *b) {
    return a && b && !is_stdout(a) && strcmp(a, b) == 0;
}

bool tob_ctl_issue_given(const tob_ctl_issue *issue) {
    return issue->csr_file || issue->cert_out || issue->key_out || issue->ca_out || issue->days ||
           issue->force;
}

static int check_for_shell(const tob_ctl_issue *issue, const tob_command *command) {
    const struct {
        const char *name;
        const char *path;
        bool needed;
    } files[] = {
        {"cert-out", issue->cert_out, true},
        {"key-out", issue->key_out, !issue->csr_file},
        {"ca-out", issue->ca_out, false},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (is_stdout(files[i].path) || (files[i].needed && !files[i].path)) {
            return tob_options_error(command, files[i].name,
                                     "a file is needed: stdout has the assignments; or use --json");
        }
    }
    return 0;
}

static int check(const tob_ctl_issue *issue, const tob_command *command, tob_ctl_stdout to) {
    if (issue->csr_file && issue->key_out) {
        return tob_options_error(command, "key-out",
                                 "goes without --csr: that key is where the request was made");
    }
    if (same_file(issue->cert_out, issue->key_out) || same_file(issue->key_out, issue->ca_out) ||
        same_file(issue->cert_out, issue->ca_out)) {
        return tob_options_error(command, "key-out",
                                 "--cert-out, --key-out and --ca-out need different files");
    }
    if (to == TOB_CTL_STDOUT_SHELL) {
        return check_for_shell(issue, command);
    }
    if (!issue->csr_file && !issue->key_out) {
        return tob_options_error(command, "key-out", "is needed: the key is told this once; - is stdout");
    }
    return 0;
}

int tob_ctl_issue_begin(tob_ctl_issue *issue, const tob_command *command, tob_ctl_stdout to) {
    int status = check(issue, command, to);
    tobogganing__v1__certificate_order__init(&issue->order);
    tob_buffer_init(&issue->csr, TOB_CTL_MAX_CSR_BYTES + 1);
    issue->order.validity_days = (uint32_t)issue->days;
    if (status == 0 && issue->csr_file) {
        status = tob_ctl_read_file(issue->csr_file, &issue->csr);
        if (status == 0 && strlen((const char *)issue->csr.data) != issue->csr.len) {
            status = tob_options_error(command, "csr", "'%s' is not PEM", issue->csr_file);
        }
        issue->order.csr = (char *)issue->csr.data;
    }
    if (status == 0) {
        status = tob_ctl_outfile_open(&issue->key, issue->key_out, 0600, issue->force);
    }
    if (status == 0) {
        const char *cert = issue->cert_out ? issue->cert_out : to == TOB_CTL_STDOUT_FREE ? "-" : NULL;
        status = tob_ctl_outfile_open(&issue->cert, cert, 0644, issue->force);
    }
    return status ? status : tob_ctl_outfile_open(&issue->ca, issue->ca_out, 0644, issue->force);
}

static int write_pem(tob_ctl_outfile *file, const char *pem, tob_ctl_stdout to) {
    if (to == TOB_CTL_STDOUT_JSON && is_stdout(file->path)) {
        return 0; // it is in the object
    }
    int status = tob_ctl_outfile_write(file, pem, strlen(pem));
    return status ? status : tob_ctl_outfile_keep(file);
}

int tob_ctl_issue_write(tob_ctl_issue *issue, const Tobogganing__V1__IssuedCertificate *issued,
                        tob_ctl_stdout to) {
    const Tobogganing__V1__Certificate *certificate = issued ? issued->certificate : NULL;
    if (!certificate) {
        fprintf(stderr, TOB_CTL_PROGRAM ": the answer has no certificate\n");
        return 1;
    }
    int status = write_pem(&issue->key, issued->key, to);
    status = status ? status : write_pem(&issue->cert, certificate->pem, to);
    status = status ? status : write_pem(&issue->ca, issued->ca, to);
    if (status) {
        fprintf(stderr,
                TOB_CTL_PROGRAM ": the certificate was issued; to take it back: " TOB_CTL_PROGRAM
                                " cert revoke %s\n",
                certificate->serial);
    }
    return status;
}

void tob_ctl_issue_json(const tob_ctl_issue *issue, json_t *issued) {
    if (!is_stdout(issue->key_out)) {
        json_object_del(issued, "key");
    }
}

void tob_ctl_issue_fini(tob_ctl_issue *issue) {
    tob_ctl_outfile_fini(&issue->key);
    tob_ctl_outfile_fini(&issue->cert);
    tob_ctl_outfile_fini(&issue->ca);
    tob_buffer_fini(&issue->csr);
}
