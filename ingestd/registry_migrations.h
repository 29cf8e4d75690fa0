// The steps of the registry's schema: migrations/ENGINE/NNNN.sql, taken into the program when it is built.
#ifndef TOB_INGESTD_REGISTRY_MIGRATIONS_H
#define TOB_INGESTD_REGISTRY_MIGRATIONS_H

#include <stddef.h>

#include "sql/sql.h"

extern const tob_sql_migration tob_registry_migrations[];
extern const size_t tob_registry_migration_count;

#endif
