#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/ca_state.h"

#define MAX_LABEL_BYTES 63

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// A host's name: RFC 1123 §2.1. A last label of digits only would be an address, or a mistyped one.
static bool is_dns_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > TOB_CA_MAX_NAME_BYTES) {
        return false;
    }
    for (const char *label = name;;) {
        size_t n = strcspn(label, "."), digits = strspn(label, "0123456789");
        if (n == 0 || n > MAX_LABEL_BYTES || !is_letter_or_digit(label[0]) ||
            !is_letter_or_digit(label[n - 1])) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (!is_letter_or_digit(label[i]) && label[i] != '-') {
                return false;
            }
        }
        if (!label[n]) {
            return digits < n;
        }
        label += n + 1;
    }
}

static bool add(GENERAL_NAMES *to, int type, int string_type, const void *bytes, size_t len) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *string = ASN1_STRING_type_new(string_type);
    if (!name || !string || ASN1_STRING_set(string, bytes, (int)len) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(string);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, string);
    if (sk_GENERAL_NAME_push(to, name) <= 0) {
        GENERAL_NAME_free(name);
        return false;
    }
    return true;
}

// TOB_INVALID: it is neither.
static tob_error add_host(GENERAL_NAMES *to, const char *name) {
    uint8_t address[16];
    bool ok = false;
    if (inet_pton(AF_INET, name, address) == 1) {
        ok = add(to, GEN_IPADD, V_ASN1_OCTET_STRING, address, 4);
    } else if (inet_pton(AF_INET6, name, address) == 1) {
        ok = add(to, GEN_IPADD, V_ASN1_OCTET_STRING, address, 16);
    } else if (is_dns_name(name)) {
        ok = add(to, GEN_DNS, V_ASN1_IA5STRING, name, strlen(name));
    } else {
        return TOB_INVALID;
    }
    return ok ? TOB_OK : TOB_NO_MEMORY;
}

static tob_error fill(const tob_ca_order *order, GENERAL_NAMES *to, tob_ca_problem *problem) {
    char uri[TOB_CA_MAX_SUBJECT_BYTES + 64];
    int len = snprintf(uri, sizeof(uri), "tobogganing:%s:%s", order->type, order->subject);
    tob_error err = add(to, GEN_URI, V_ASN1_IA5STRING, uri, (size_t)len) ? TOB_OK : TOB_NO_MEMORY;
    if (!err && strcmp(order->type, "client") != 0 && (order->name_count == 0 || order->name_subject)) {
        err = add_host(to, order->subject);
        err = err == TOB_INVALID ? TOB_OK : err; // an id that can't be resolved
    }
    for (size_t i = 0; i < order->name_count && !err; i++) {
        err = add_host(to, order->names[i]);
        if (err == TOB_INVALID) {
            return tob_ca_say(problem, err, "names: number %zu is neither a DNS name nor an IP address",
                              i + 1);
        }
    }
    return err ? tob_ca_say(problem, err, "names: %s", tob_error_string(err)) : TOB_OK;
}

tob_error tob_ca_names(const tob_ca_order *order, GENERAL_NAMES **ret, tob_ca_problem *ret_problem) {
    if (order->name_count > TOB_CA_MAX_NAMES) {
        return tob_ca_say(ret_problem, TOB_INVALID, "names: over %d", TOB_CA_MAX_NAMES);
    }
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    if (!names) {
        return tob_ca_say(ret_problem, TOB_NO_MEMORY, "names: %s", tob_error_string(TOB_NO_MEMORY));
    }
    tob_error err = fill(order, names, ret_problem);
    if (err) {
        GENERAL_NAMES_free(names);
        return err;
    }
    *ret = names;
    return TOB_OK;
}
