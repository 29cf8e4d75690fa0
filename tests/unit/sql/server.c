#include "server.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64]; // of everything; the server's is "pg" in it
static char server_folder[80];
static char server_url[256];
static bool is_missing;
static unsigned databases;
static char url[320];
static pid_t owner; // a child that a test forks must not clear up

__attribute__((noreturn)) static void give_up(const char *what, const char *why) {
    fprintf(stderr, "tests/unit/sql/server.c: %s: %s\n", what, why);
    abort();
}

// Reads the last line that a command prints; returns its exit status.
static int command(const char *text, char *line, size_t size) {
    FILE *out = popen(text, "r");
    if (!out) {
        give_up(text, "can't be run");
    }
    char next[256];
    while (fgets(next, sizeof(next), out)) {
        next[strcspn(next, "\n")] = 0;
        snprintf(line, size, "%s", next);
    }
    int status = pclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void remove_folder(void) {
    char text[128], line[8];
    if (getpid() != owner) {
        return;
    }
    snprintf(text, sizeof(text), "rm -rf '%s'", folder);
    if (command(text, line, sizeof(line)) != 0) {
        fprintf(stderr, "%s: failed\n", text);
    }
}

static void make_folder(void) {
    if (folder[0]) {
        return;
    }
    snprintf(folder, sizeof(folder), "/tmp/tob-sql-XXXXXX");
    if (!mkdtemp(folder) || chmod(folder, 0711) != 0) { // the server's user has to pass
        give_up(folder, "can't be made");
    }
    snprintf(server_folder, sizeof(server_folder), "%s/pg", folder);
    owner = getpid();
    atexit(remove_folder);
}

static void stop_server(void) {
    if (getpid() != owner) {
        return;
    }
    tob_test_postgresql_control("stop");
}

// tests/postgresql stops the server when this process has ended otherwise than by exit.
static void start_server(void) {
    char text[512];
    make_folder();
    snprintf(text, sizeof(text), "'%s' start '%s' --pid %ld", TOB_TESTS_POSTGRESQL, server_folder,
             (long)getpid());
    int status = command(text, server_url, sizeof(server_url));
    is_missing = status == 77;
    if (status != 0 && !is_missing) {
        give_up(text, "failed");
    }
    if (!is_missing) {
        atexit(stop_server); // before remove_folder
    }
}

void tob_test_postgresql_control(const char *what) {
    char text[512], line[8];
    snprintf(text, sizeof(text), "'%s' %.*s '%s'%s", TOB_TESTS_POSTGRESQL, (int)strcspn(what, " "), what,
             server_folder, what + strcspn(what, " "));
    if (command(text, line, sizeof(line)) != 0) {
        give_up(text, "failed");
    }
}

void tob_test_postgresql_execute(const char *at, const char *statements) {
    PGconn *conn = PQconnectdb(at);
    PGresult *result = PQexec(conn, statements);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        give_up(statements, PQerrorMessage(conn));
    }
    PQclear(result);
    PQfinish(conn);
}

const char *tob_test_postgresql_folder(void) {
    return server_folder;
}

const char *tob_test_postgresql(void) {
    char statement[64];
    if (!server_url[0] && !is_missing) {
        start_server();
    }
    if (is_missing) {
        return NULL;
    }
    snprintf(statement, sizeof(statement), "CREATE DATABASE test%u", ++databases);
    tob_test_postgresql_execute(server_url, statement);
    snprintf(url, sizeof(url), "%.*s/test%u", (int)(strrchr(server_url, '/') - server_url), server_url,
             databases);
    return url;
}

const char *tob_test_database(const char *engine) {
    if (strcmp(engine, "postgresql") == 0) {
        return tob_test_postgresql();
    }
    make_folder();
    snprintf(url, sizeof(url), "sqlite:%s/test%u.db", folder, ++databases);
    return url;
}
