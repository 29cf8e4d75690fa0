// What the directory's files share. Inside the directory only.
#ifndef TOB_INGESTD_DIRECTORY_STATE_H
#define TOB_INGESTD_DIRECTORY_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "ingestd/directory.h"
#include "ingestd/directory_table.h"

// The strings of a row are one allocation that begins with its id.
struct tob_directory {
    pthread_rwlock_t lock;        // guards the tables; not the notes' bits of readers
    tob_directory_table clients;  // of tob_directory_client
    tob_directory_table headends; // of tob_directory_headend
    _Atomic uint64_t registered_clusters;
    _Atomic uint64_t registered_clients;
    _Atomic uint64_t registered_headends;
    _Atomic uint64_t heard_previous; // rows with TOB_NOTE_HEARD_PREVIOUS, also those whose overlap is over
};

tob_directory_client *tob_directory_client_at(const tob_directory *directory, size_t row);
tob_directory_headend *tob_directory_headend_at(const tob_directory *directory, size_t row);

// tob_directory_note_heard sets or clears TOB_NOTE_HEARD_PREVIOUS and keeps the count; several threads may do it at once.
void tob_directory_note_heard(tob_directory *directory, size_t row, bool previous);

#endif
