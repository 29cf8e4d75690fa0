#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ingestd/ca_state.h"

static tob_error fail(tob_ca_problem *problem, const char *path, tob_error err, const char *why) {
    return tob_ca_say(problem, err, "%s: %s", path, why);
}

static tob_error read_all(int fd, char *to, size_t max, size_t *ret) {
    size_t n = 0;
    while (n < max) {
        ssize_t got = read(fd, to + n, max - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return tob_error_from_errno(errno);
        }
        if (got == 0) {
            *ret = n;
            return TOB_OK;
        }
        n += (size_t)got;
    }
    return TOB_TOO_LARGE;
}

// Reads a PEM file into `to` of TOB_CA_MAX_PEM_BYTES + 1.
static tob_error read_file(const char *path, bool secret, char *to, tob_ca_problem *problem) {
    struct stat st;
    size_t n = 0;
    tob_error err = TOB_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err = fail(problem, path, errno == ENOENT ? TOB_NOT_FOUND : TOB_IO, strerror(errno));
        goto out;
    }
    if (secret && (st.st_mode & S_IRWXO)) {
        err = fail(problem, path, TOB_PRECONDITION,
                   "everyone may read or change this private key: chmod 600 it");
        goto out;
    }
    err = read_all(fd, to, TOB_CA_MAX_PEM_BYTES + 1, &n);
    if (err) {
        fail(problem, path, err, err == TOB_TOO_LARGE ? "more than 16 KiB" : tob_error_string(err));
        goto out;
    }
    to[n] = '\0';
    if (strlen(to) != n) {
        err = fail(problem, path, TOB_INVALID, "not PEM");
    }
out:
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

tob_error tob_ca_load(const char *certificate_path, const char *key_path, tob_ca **ret,
                      tob_ca_problem *ret_problem) {
    char certificate[TOB_CA_MAX_PEM_BYTES + 1], key[TOB_CA_MAX_PEM_BYTES + 1];
    tob_ca_problem problem = {""};
    tob_error err = read_file(certificate_path, false, certificate, ret_problem);
    if (!err) {
        err = read_file(key_path, true, key, ret_problem);
    }
    if (!err) {
        err = tob_ca_new(certificate, key, ret, &problem);
        if (err) {
            tob_ca_say(ret_problem, err, "%s, %s: %s", certificate_path, key_path, problem.text);
        }
    }
    OPENSSL_cleanse(key, sizeof(key));
    return err;
}
