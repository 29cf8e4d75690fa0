#include "agent/client_sampler.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/system_file.h"
#include "util/clock.h"

struct tob_client_sampler {
    char root[TOB_MAX_ROOT_BYTES];
    char interface[TOB_MAX_INTERFACE_BYTES + 1];
    int64_t index; // of the interface when last seen; 0: not seen yet
    uint64_t first_seen_ms;
};

// What the kernel accepts as a name (dev_valid_name), which also keeps the name inside its folder.
static bool interface_valid(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= TOB_MAX_INTERFACE_BYTES && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           !strpbrk(name, "/: \t\n\v\f\r");
}

tob_error tob_client_sampler_new(const char *root, const char *interface, tob_client_sampler **ret) {
    if (!interface_valid(interface)) {
        return TOB_INVALID;
    }
    if (strlen(root) >= TOB_MAX_ROOT_BYTES) {
        return TOB_TOO_LARGE;
    }
    tob_client_sampler *sampler = calloc(1, sizeof(*sampler));
    if (!sampler) {
        return TOB_NO_MEMORY;
    }
    memcpy(sampler->root, root, strlen(root));
    memcpy(sampler->interface, interface, strlen(interface));
    *ret = sampler;
    return TOB_OK;
}

void tob_client_sampler_free(tob_client_sampler *sampler) {
    free(sampler);
}

static tob_error read_attribute(const tob_client_sampler *sampler, const char *name, int64_t *ret,
                                tob_problem *ret_problem) {
    char path[64];
    snprintf(path, sizeof(path), "/sys/class/net/%s/%s", sampler->interface, name);
    return tob_system_read_number(sampler->root, path, ret, ret_problem);
}

static tob_error machine_uptime_ms(const tob_client_sampler *sampler, int64_t *ret,
                                   tob_problem *ret_problem) {
    FILE *file = NULL;
    tob_error err = tob_system_open(sampler->root, "/proc/uptime", &file, ret_problem);
    if (err) {
        return err;
    }
    double seconds = 0;
    if (fscanf(file, "%lf", &seconds) != 1 || !(seconds >= 0 && seconds < 1e12)) {
        err = tob_problem_set(ret_problem, TOB_MALFORMED, "/proc/uptime: no number of seconds");
    }
    fclose(file);
    if (!err) {
        *ret = (int64_t)(seconds * 1000);
    }
    return err;
}

// Age by udev's note, or -1 when there is none.
static int64_t udev_age_ms(const tob_client_sampler *sampler) {
    char path[64];
    char line[256];
    long long initialized_us = -1;
    FILE *file = NULL;
    tob_problem none;
    snprintf(path, sizeof(path), "/run/udev/data/n%lld", (long long)sampler->index);
    if (tob_system_open(sampler->root, path, &file, &none)) {
        return -1;
    }
    while (initialized_us < 0 && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "I:%lld", &initialized_us) != 1) {
            initialized_us = -1;
        }
    }
    fclose(file);
    int64_t age_ms = (int64_t)tob_clock_monotonic_ms() - initialized_us / 1000;
    return initialized_us < 0 || age_ms < 0 ? -1 : age_ms;
}

static int64_t folder_age_ms(const tob_client_sampler *sampler) {
    char relative[64];
    char path[TOB_MAX_ROOT_BYTES + sizeof(relative)];
    struct stat st;
    tob_problem none;
    snprintf(relative, sizeof(relative), "/sys/class/net/%s/", sampler->interface);
    if (tob_system_path(sampler->root, relative, path, sizeof(path), &none) || stat(path, &st) != 0) {
        return 0;
    }
    int64_t changed_ms = (int64_t)st.st_ctim.tv_sec * 1000 + st.st_ctim.tv_nsec / 1000000;
    int64_t age_ms = (int64_t)tob_clock_unix_ms() - changed_ms;
    return age_ms > 0 ? age_ms : 0;
}

static tob_error tunnel_uptime_ms(tob_client_sampler *sampler, int64_t *ret, tob_problem *ret_problem) {
    int64_t index = 0;
    int64_t machine_ms = 0;
    tob_error err = read_attribute(sampler, "ifindex", &index, ret_problem);
    if (!err) {
        err = machine_uptime_ms(sampler, &machine_ms, ret_problem);
    }
    if (err) {
        return err;
    }
    if (index != sampler->index) {
        sampler->index = index;
        sampler->first_seen_ms = tob_clock_monotonic_ms();
    }
    int64_t age_ms = udev_age_ms(sampler);
    if (age_ms < 0) {
        int64_t seen_ms = (int64_t)(tob_clock_monotonic_ms() - sampler->first_seen_ms);
        age_ms = folder_age_ms(sampler);
        age_ms = age_ms > seen_ms ? age_ms : seen_ms;
    }
    *ret = age_ms < machine_ms ? age_ms : machine_ms;
    return TOB_OK;
}

tob_error tob_client_sampler_read(tob_client_sampler *sampler, tob_client_sample *ret,
                                  tob_problem *ret_problem) {
    static const struct {
        unsigned metric;
        const char *attribute;
    } attributes[] = {
        {TOB_CLIENT_BYTES_SENT, "statistics/tx_bytes"},
        {TOB_CLIENT_BYTES_RECEIVED, "statistics/rx_bytes"},
        {TOB_CLIENT_PACKETS_SENT, "statistics/tx_packets"},
        {TOB_CLIENT_PACKETS_RECEIVED, "statistics/rx_packets"},
    };
    tob_client_sample sample = {.time_unix_ms = (int64_t)tob_clock_unix_ms()};
    tob_error err = TOB_OK;
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]) && !err; i++) {
        err = read_attribute(sampler, attributes[i].attribute, &sample.values[attributes[i].metric],
                             ret_problem);
        sample.present |= 1u << attributes[i].metric;
    }
    if (!err) {
        err = tunnel_uptime_ms(sampler, &sample.values[TOB_CLIENT_CONNECTION_UPTIME], ret_problem);
        sample.present |= 1u << TOB_CLIENT_CONNECTION_UPTIME;
    }
    if (!err) {
        *ret = sample;
    }
    return err;
}
