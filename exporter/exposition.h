// tob_exposition writes the families of the contract in Prometheus' text format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/), piece by piece: families in a fixed order,
// each with HELP, TYPE and then all of its lines. Lines have no timestamps; a value that was never reported
// has no line.
//
// Threads: one at a time; several at once over the same mirror and manager. Holds no lock between calls.
#ifndef TOB_EXPORTER_EXPOSITION_H
#define TOB_EXPORTER_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exporter/manager.h"
#include "exporter/mirror.h"

#define TOB_EXPOSITION_TYPE     "text/plain; version=0.0.4; charset=utf-8"
#define TOB_EXPOSITION_MIN_ROOM 8192u // more than the longest line

enum { TOB_PART_MANAGER = 1, TOB_PART_CLIENT = 2, TOB_PART_HEADEND = 4, TOB_PART_ALL = 7 };

// Embedded by its user; fields are the module's own.
typedef struct tob_exposition {
    tob_mirror *mirror;
    tob_manager *manager;
    unsigned parts;
    uint64_t births; // sources added later are left out
    size_t family;
    bool begun; // the family's HELP and TYPE are written
    uint32_t chunk;
    uint32_t row;
    size_t counter;
} tob_exposition;

// parts: a set of TOB_PART_….
void tob_exposition_init(tob_exposition *exposition, tob_mirror *mirror, tob_manager *manager,
                         unsigned parts);

// tob_exposition_read writes the next whole lines, as many as there is room for, and returns their bytes: 0
// at the end only. room is at least TOB_EXPOSITION_MIN_ROOM.
size_t tob_exposition_read(tob_exposition *exposition, char *to, size_t room);

#endif
