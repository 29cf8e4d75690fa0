#include "ingestd/tables.h"

tob_error tob_tables_init(tob_tables *tables) {
    *tables = (tob_tables){.stored_batches = 0};
    tob_error err = tob_fleet_new(&tables->fleet);
    if (!err) {
        err = tob_process_table_new(&tables->processes);
    }
    if (!err) {
        err = tob_consumers_new(&tables->consumers);
    }
    return err ? err : tob_digests_new(TOB_DIGESTS_MAX_SENDERS, &tables->digests);
}

void tob_tables_fini(tob_tables *tables) {
    tob_digests_free(tables->digests);
    tob_consumers_free(tables->consumers);
    tob_process_table_free(tables->processes);
    tob_fleet_free(tables->fleet);
}
