// plain is what ingestd's store must have in the end, written as simply as possible: arrays that are looked through, one
// sample at a time. The tests of this folder compare the store with it. It shares no code with what it checks.
//
// Threads: one at a time. A state is copied by assignment.
#ifndef TOB_TESTS_TORTURE_PLAIN_H
#define TOB_TESTS_TORTURE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAIN_CLIENTS          10u
#define PLAIN_HEADENDS         5u
#define PLAIN_SOURCES          (PLAIN_CLIENTS + PLAIN_HEADENDS) // clients first
#define PLAIN_SENDERS          6u
#define PLAIN_CONSUMERS        4u
#define PLAIN_PROCESSES        3u
#define PLAIN_VALUES           5u
#define PLAIN_KNOWN            4u // batches that are known of a sender
#define PLAIN_FUTURE_MS        300000
#define PLAIN_REMEMBER_MS      (12 * 3600000ll) // a sender is for certain
#define PLAIN_MAX_SAMPLES      4u
#define PLAIN_MAX_SERIES       6u
#define PLAIN_SHOWN_NAME_BYTES 32u

typedef struct plain_source {
    bool there;
    bool headless;
    unsigned name; // of headends; 0: none was reported
    int64_t sample_time;
    uint64_t check_in;
    uint32_t present;
    int64_t values[PLAIN_VALUES]; // headends': in halves
} plain_source;

// A batch that was stored, as its sender's memory has it: while all records since were received within
// PLAIN_REMEMBER_MS, it is known for certain.
typedef struct plain_known {
    uint64_t content;
    int64_t earliest;
    int64_t latest;
} plain_known;

typedef struct plain_sender {
    unsigned count;
    plain_known known[PLAIN_KNOWN]; // the newest last
} plain_sender;

typedef struct plain_consumer {
    bool there;
    uint64_t segment;
    uint64_t offset;
} plain_consumer;

typedef struct plain_state {
    plain_source sources[PLAIN_SOURCES];
    plain_sender senders[PLAIN_SENDERS];
    plain_consumer consumers[PLAIN_CONSUMERS];
    uint64_t counted[PLAIN_PROCESSES]; // durably, by all processes of a kind
    uint64_t batches;
    uint64_t samples;
} plain_state;

typedef struct plain_sample {
    int64_t time;
    uint32_t present;
    int64_t values[PLAIN_VALUES];
} plain_sample;

typedef struct plain_series {
    unsigned source;
    bool headless;
    unsigned name;
    unsigned n;
    unsigned fill; // so many samples more, older than the first, with the same metrics: they only take room
    plain_sample samples[PLAIN_MAX_SAMPLES]; // all with the same metrics
} plain_series;

typedef struct plain_batch {
    unsigned sender;
    uint64_t number;
    uint64_t content; // another for another content
    unsigned n;
    plain_series series[PLAIN_MAX_SERIES]; // clients first
} plain_batch;

// What a group of changes is made of.
typedef enum plain_kind { PLAIN_BATCH, PLAIN_REMOVAL, PLAIN_COMMIT, PLAIN_FORGET, PLAIN_COUNTERS } plain_kind;

typedef struct plain_item {
    plain_kind kind;
    unsigned which; // source, consumer or kind of process
    int64_t received;
    plain_batch batch;
    plain_consumer position;
    uint64_t count;      // of all processes of a kind, ever
    uint64_t base;       // what the earlier ones of them counted
    unsigned generation; // which of them it is
} plain_item;

typedef enum plain_answer { PLAIN_NO, PLAIN_YES, PLAIN_MAYBE } plain_answer;

void plain_init(plain_state *state);

// Is the batch a repeat?
plain_answer plain_repeated(const plain_state *state, const plain_batch *batch);

// plain_apply applies one change. A batch is stored, repeat or not: ask first.
void plain_apply(plain_state *state, const plain_item *item);

bool plain_is_client(unsigned source);
const char *plain_source_id(unsigned source);
const char *plain_sender_id(unsigned sender);
uint64_t plain_sender_boot(unsigned sender);
const char *plain_consumer_name(unsigned consumer);
const char *plain_name(unsigned name); // "" for 0

#endif
