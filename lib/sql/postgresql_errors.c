#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "sql/postgresql.h"

// PostgreSQL 15, appendix A. The first entry whose code starts so counts.
static const struct {
    const char *start;
    tob_error error;
    bool ends_session;
} states[] = {
    {"23505", TOB_ALREADY_EXISTS, false},
    {"23503", TOB_NOT_FOUND, false},
    {"23", TOB_PRECONDITION, false},
    {"P0001", TOB_PRECONDITION, false}, // RAISE in a trigger
    {"40001", TOB_ABORTED, false},
    {"40P01", TOB_ABORTED, false}, // deadlock
    {"40", TOB_UNAVAILABLE, false},
    {"08", TOB_UNAVAILABLE, true},
    {"57014", TOB_UNAVAILABLE, false}, // statement_timeout
    {"57P", TOB_UNAVAILABLE, true},    // shutdown, crash, starting up, idle too long
    {"55P03", TOB_UNAVAILABLE, false}, // lock_timeout
    {"25P03", TOB_UNAVAILABLE, true},  // idle in a transaction for too long
    {"25006", TOB_UNAVAILABLE, true},  // read-only: a standby now; the next connection may find the primary
    {"53100", TOB_IO, false},          // disk full
    {"53", TOB_UNAVAILABLE, false},    // too many connections, out of memory
    {"58", TOB_IO, false},
    {"XX001", TOB_DAMAGED, false},
    {"XX002", TOB_DAMAGED, false},
    {"22021", TOB_INVALID, false}, // bytes that are not UTF-8
    {"22003", TOB_INVALID, false}, // a number that is too large
    {"28", TOB_PERMISSION_DENIED, true},
    {"3D000", TOB_PRECONDITION, true}, // no such database
};

#define STATES (sizeof(states) / sizeof(states[0]))

static size_t find(const char *sqlstate) {
    size_t i = 0;
    while (i < STATES && strncmp(sqlstate, states[i].start, strlen(states[i].start)) != 0) {
        i++;
    }
    return i;
}

tob_error tob_pg_error_of(const char *sqlstate) {
    size_t i = find(sqlstate);
    return i < STATES ? states[i].error : TOB_INTERNAL;
}

bool tob_pg_ends_session(const char *sqlstate) {
    size_t i = find(sqlstate);
    return i < STATES && states[i].ends_session;
}

// In "FATAL:  28P01: password authentication failed" the code with its colon and blank; NULL: there is none.
static char *find_state(char *line) {
    for (char *at = strstr(line, ":  "); at; at = strstr(at + 1, ":  ")) {
        char *code = at + 3;
        size_t n = 0;
        while (n < 5 && (isupper((unsigned char)code[n]) || isdigit((unsigned char)code[n]))) {
            n++;
        }
        if (n == 5 && code[5] == ':' && code[6] == ' ') {
            return code;
        }
    }
    return NULL;
}

// libpq has no SQLSTATE of a connection that failed but in its text (PQERRORS_VERBOSE): one paragraph for each address.
tob_error tob_pg_connect_problem(PGconn *conn, tob_sql_problem_text *ret_problem) {
    char text[2 * TOB_SQL_MAX_PROBLEM_BYTES], *rest = text, *line;
    char said[TOB_SQL_MAX_PROBLEM_BYTES] = "";
    size_t n = 0;
    tob_error err = PQconnectionNeedsPassword(conn) ? TOB_PERMISSION_DENIED : TOB_UNAVAILABLE;
    snprintf(text, sizeof(text), "%s", PQerrorMessage(conn));
    while ((line = strsep(&rest, "\n"))) {
        char *code = find_state(line);
        if (code) {
            tob_error of_code = tob_pg_error_of(code);
            bool permanent = of_code == TOB_PERMISSION_DENIED || of_code == TOB_PRECONDITION;
            err = permanent ? of_code : TOB_UNAVAILABLE;
            memmove(code, code + 7, strlen(code + 7) + 1);
        }
        if (*line && strncmp(line, "LOCATION:", 9) != 0) {
            int more = snprintf(said + n, sizeof(said) - n, "%s%s", n ? " " : "", line);
            n += more > 0 ? (size_t)more : 0;
            n = n < sizeof(said) ? n : sizeof(said) - 1;
        }
    }
    tob_sql_say(ret_problem, "%s", said);
    return err;
}
