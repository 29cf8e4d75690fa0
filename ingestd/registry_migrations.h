// The registry's schema as numbered steps of plain SQL. A step, once released, is never changed: a change is
// a new step at the end.
#ifndef TOB_INGESTD_REGISTRY_MIGRATIONS_H
#define TOB_INGESTD_REGISTRY_MIGRATIONS_H

// tob_registry_migrations[i] takes the schema from version i to i + 1; NULL at the end.
extern const char *const tob_registry_migrations[];

#endif
