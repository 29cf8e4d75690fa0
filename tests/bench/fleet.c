#include "fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t next_random(fleet_client *client) {
    uint64_t z = client->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

// Uniform in [0, 1).
static double uniform(fleet_client *client) {
    return (double)(next_random(client) >> 11) * 0x1p-53;
}

// Log-normal around 1; the sum of uniforms is normal enough.
static double noise(fleet_client *client, double sigma) {
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += uniform(client);
    }
    return exp(sigma * (sum - 2) * 1.7320508);
}

static void start_client(fleet_client *client, size_t index, uint64_t start_unix_ms) {
    client->random = index + 1;
    client->bytes_per_s = 20e3 * noise(client, 1.5);
    client->receive_ratio = 4 * noise(client, 0.8);
    client->active = uniform(client) < 0.5;
    client->now_us = start_unix_ms * 1000 + (uint64_t)(uniform(client) * 10e6);
    // The tunnel has been up for minutes to days.
    double up_s = 86400 * noise(client, 1.5);
    client->started_us = client->now_us - (uint64_t)(up_s * 1e6);
    client->values[TOB_CLIENT_BYTES_SENT] = (uint64_t)(up_s * client->bytes_per_s / 2);
    client->values[TOB_CLIENT_BYTES_RECEIVED] =
        (uint64_t)((double)client->values[TOB_CLIENT_BYTES_SENT] * client->receive_ratio);
    client->values[TOB_CLIENT_PACKETS_SENT] = client->values[TOB_CLIENT_BYTES_SENT] / 400;
    client->values[TOB_CLIENT_PACKETS_RECEIVED] = client->values[TOB_CLIENT_BYTES_RECEIVED] / 900;
}

tob_error fleet_read(const char *path, uint64_t start_unix_ms, fleet *ret) {
    fleet_client *clients = NULL;
    size_t count = 0, capacity = 0;
    tob_error err = TOB_OK;
    char line[TOB_MAX_ID_BYTES + FLEET_MAX_KEY_BYTES + 8];
    FILE *file = fopen(path, "re");
    if (!file) {
        return TOB_IO;
    }
    while (!err && fgets(line, sizeof(line), file)) {
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            fleet_client *grown = realloc(clients, capacity * sizeof(*grown));
            if (!grown) {
                err = TOB_NO_MEMORY;
                break;
            }
            clients = grown;
        }
        fleet_client *client = &clients[count];
        memset(client, 0, sizeof(*client));
        if (sscanf(line, "%128s %64s", client->id, client->key) != 2) {
            err = TOB_MALFORMED;
        }
        start_client(client, count++, start_unix_ms);
    }
    if (!err && count == 0) {
        err = TOB_MALFORMED;
    }
    fclose(file);
    if (err) {
        free(clients);
        return err;
    }
    *ret = (fleet){.clients = clients, .count = count};
    return TOB_OK;
}

void fleet_free(fleet *f) {
    free(f->clients);
    *f = (fleet){0};
}

// One interval's traffic: bursts while somebody works, else what devices do by themselves.
static void grow(fleet_client *client, double interval_s) {
    if (uniform(client) < 0.05) {
        client->active = !client->active;
    }
    double bytes_per_s = client->active ? client->bytes_per_s : 60;
    double sent = bytes_per_s * interval_s * noise(client, 1.0);
    double received = sent * client->receive_ratio * noise(client, 0.5);
    double packets_sent = sent / (client->active ? 400 : 120) / noise(client, 0.3);
    double packets_received = received / (client->active ? 900 : 200) / noise(client, 0.2);
    client->values[TOB_CLIENT_BYTES_SENT] += (uint64_t)sent + 1;
    client->values[TOB_CLIENT_BYTES_RECEIVED] += (uint64_t)received + 1;
    client->values[TOB_CLIENT_PACKETS_SENT] += (uint64_t)packets_sent + 1;
    client->values[TOB_CLIENT_PACKETS_RECEIVED] += (uint64_t)packets_received + 1;
}

void fleet_sample(fleet_client *client, uint64_t interval_ms, tob_client_sample *ret, size_t n) {
    for (size_t i = 0; i < n; i++) {
        client->now_us +=
            interval_ms * 1000 + (uint64_t)(uniform(client) * 200); // a timer is late, never early
        grow(client, (double)interval_ms / 1000);
        tob_client_sample *sample = &ret[i];
        *sample = (tob_client_sample){.time_unix_ms = (int64_t)(client->now_us / 1000),
                                      .present = (1u << TOB_CLIENT_METRICS) - 1};
        for (unsigned m = 0; m < TOB_CLIENT_CONNECTION_UPTIME; m++) {
            sample->values[m] = (int64_t)client->values[m];
        }
        sample->values[TOB_CLIENT_CONNECTION_UPTIME] =
            (int64_t)((client->now_us - client->started_us) / 1000);
    }
}
