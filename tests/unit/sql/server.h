// A PostgreSQL server for a test program, started by its first caller and gone with the program, and databases in it; and a
// SQLite file likewise. Used by the tests of every room that has a registry.
#ifndef TOB_TESTS_SQL_SERVER_H
#define TOB_TESTS_SQL_SERVER_H

#include <stdbool.h>

// tob_test_postgresql makes a new, empty database and returns its URL, with a password; the text is valid until the next
// call. NULL when PostgreSQL is not installed: then skip(). Any other failure ends the program.
const char *tob_test_postgresql(void);

// The folder of the server's that tests/postgresql stops and restarts. After a tob_test_postgresql.
const char *tob_test_postgresql_folder(void);

// tob_test_postgresql_control: tests/postgresql COMMAND, e.g. "stop", "restart"; waits for it.
void tob_test_postgresql_control(const char *command);

// tob_test_postgresql_execute carries out statements in a database, as another program would.
void tob_test_postgresql_execute(const char *url, const char *statements);

// tob_test_database: a new, empty database of the engine "sqlite" or "postgresql"; otherwise as tob_test_postgresql.
const char *tob_test_database(const char *engine);

#endif
