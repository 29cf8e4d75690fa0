// What the agent does once it is set up: sample, or relay standard input, and flush.
//
// Threads: main thread, signals blocked (tob_daemon_block_signals).
#ifndef TOB_AGENT_RUN_H
#define TOB_AGENT_RUN_H

#include "agent/sender.h"
#include "agent/settings.h"

#define TOB_AGENT_STOP_MS     5000 // SIGTERM: how long what is queued may take
#define TOB_AGENT_BASELINE_MS 1000 // between the two readings that the first rates need

// tob_agent_run_sampling samples until SIGTERM, or once. Returns the exit status.
int tob_agent_run_sampling(tob_agent_settings *settings, tob_sender *sender);

// tob_agent_run_stdin relays lines from `fd` until they end, or SIGTERM. Returns the exit status.
int tob_agent_run_stdin(tob_agent_settings *settings, tob_sender *sender, int fd);

// tob_agent_flush sends what is queued. False when not everything was answered within timeout_ms, or when a
// signal to stop came meanwhile.
bool tob_agent_flush(tob_sender *sender, uint64_t timeout_ms);

// tob_agent_log_event logs what the sender tells. user: a uint64_t, 0 at first: samples dropped so far.
void tob_agent_log_event(void *user, const tob_sender_event *event);

// tob_agent_reload re-reads the credential on SIGHUP and logs how it went.
void tob_agent_reload(tob_agent_settings *settings);

#endif
