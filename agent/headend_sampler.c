#include "agent/headend_sampler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/client_sampler.h"
#include "agent/system_file.h"
#include "util/clock.h"
#include "util/text.h"

typedef struct traffic {
    char interface[TOB_MAX_INTERFACE_BYTES + 1];
    uint64_t in;
    uint64_t out;
} traffic;

// One reading of what only ever grows.
typedef struct reading {
    uint64_t at_ns; // 0: none yet
    uint64_t cpu_busy;
    uint64_t cpu_total;
    size_t interface_count;
    traffic interfaces[TOB_MAX_INTERFACES];
} reading;

struct tob_headend_sampler {
    char root[TOB_MAX_ROOT_BYTES];
    char interface[TOB_MAX_INTERFACE_BYTES + 1]; // "": all but lo
    uint16_t ports[TOB_MAX_PORTS];
    size_t port_count; // 0: all
    reading last;
    reading now;
};

static tob_error parse_ports(tob_headend_sampler *sampler, const char *list, tob_problem *ret_problem) {
    while (list && *list) {
        char text[8] = "";
        uint64_t port = 0;
        size_t len = strcspn(list, ",");
        if (len < sizeof(text)) {
            memcpy(text, list, len);
        }
        if (tob_parse_u64(text, UINT16_MAX, &port) || port == 0) {
            return tob_problem_set(ret_problem, TOB_INVALID, "'%.*s' is not a port",
                                   (int)(len < 40 ? len : 40), list);
        }
        if (sampler->port_count == TOB_MAX_PORTS) {
            return tob_problem_set(ret_problem, TOB_TOO_LARGE, "more than %d ports", TOB_MAX_PORTS);
        }
        sampler->ports[sampler->port_count++] = (uint16_t)port;
        list += len;
        list += *list == ',';
    }
    return TOB_OK;
}

tob_error tob_headend_sampler_new(const tob_headend_sampler_options *options, tob_headend_sampler **ret,
                                  tob_problem *ret_problem) {
    const char *interface = options->interface ? options->interface : "";
    if (strlen(interface) > TOB_MAX_INTERFACE_BYTES) {
        return tob_problem_set(ret_problem, TOB_INVALID, "an interface's name has at most %d bytes",
                               TOB_MAX_INTERFACE_BYTES);
    }
    if (strlen(options->root) >= TOB_MAX_ROOT_BYTES) {
        return tob_problem_set(ret_problem, TOB_TOO_LARGE, "the root has at most %d bytes",
                               TOB_MAX_ROOT_BYTES - 1);
    }
    tob_headend_sampler *sampler = calloc(1, sizeof(*sampler));
    if (!sampler) {
        return tob_problem_set(ret_problem, TOB_NO_MEMORY, "out of memory");
    }
    memcpy(sampler->root, options->root, strlen(options->root));
    memcpy(sampler->interface, interface, strlen(interface));
    tob_error err = parse_ports(sampler, options->ports, ret_problem);
    if (err) {
        tob_headend_sampler_free(sampler);
        return err;
    }
    *ret = sampler;
    return TOB_OK;
}

void tob_headend_sampler_free(tob_headend_sampler *sampler) {
    free(sampler);
}

static bool port_counts(const tob_headend_sampler *sampler, unsigned port) {
    for (size_t i = 0; i < sampler->port_count; i++) {
        if (sampler->ports[i] == port) {
            return true;
        }
    }
    return sampler->port_count == 0;
}

// proc(5): "sl local_address rem_address st …", addresses as HEX:PORT, state 01 is ESTABLISHED.
static tob_error count_connections(const tob_headend_sampler *sampler, const char *path, uint64_t *count,
                                   tob_problem *ret_problem) {
    enum { ESTABLISHED = 1 };
    FILE *file = NULL;
    char line[512];
    tob_error err = tob_system_open(sampler->root, path, &file, ret_problem);
    if (err) {
        return err;
    }
    while (fgets(line, sizeof(line), file)) {
        unsigned port = 0;
        unsigned state = 0;
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &port, &state) == 2 &&
            state == ESTABLISHED && port_counts(sampler, port)) {
            (*count)++;
        }
    }
    if (ferror(file)) {
        err = tob_problem_set(ret_problem, TOB_IO, "%s: %s", path, strerror(errno));
    }
    fclose(file);
    return err;
}

static tob_error read_connections(const tob_headend_sampler *sampler, tob_headend_sample *sample,
                                  tob_problem *ret_problem) {
    uint64_t count = 0;
    tob_error err = count_connections(sampler, "/proc/net/tcp", &count, ret_problem);
    if (!err) {
        err = count_connections(sampler, "/proc/net/tcp6", &count, ret_problem);
        err = err == TOB_NOT_FOUND ? TOB_OK : err; // a kernel without IPv6
    }
    sample->values[TOB_HEADEND_ACTIVE_CONNECTIONS] = (double)count;
    sample->present |= 1u << TOB_HEADEND_ACTIVE_CONNECTIONS;
    return err;
}

static bool interface_counts(const tob_headend_sampler *sampler, const char *name) {
    return *sampler->interface ? strcmp(name, sampler->interface) == 0 : strcmp(name, "lo") != 0;
}

// proc(5): "  eth0: bytes packets errs drop fifo frame compressed multicast bytes …", received first.
static tob_error read_traffic(tob_headend_sampler *sampler, reading *to, tob_problem *ret_problem) {
    FILE *file = NULL;
    char line[512];
    tob_error err = tob_system_open(sampler->root, "/proc/net/dev", &file, ret_problem);
    if (err) {
        return err;
    }
    while (to->interface_count < TOB_MAX_INTERFACES && fgets(line, sizeof(line), file)) {
        traffic *t = &to->interfaces[to->interface_count];
        int found = sscanf(line, " %15[^: \t]: %" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64,
                           t->interface, &t->in, &t->out);
        to->interface_count += found == 3 && interface_counts(sampler, t->interface);
    }
    if (ferror(file)) {
        err = tob_problem_set(ret_problem, TOB_IO, "/proc/net/dev: %s", strerror(errno));
    } else if (*sampler->interface && to->interface_count == 0) {
        err =
            tob_problem_set(ret_problem, TOB_NOT_FOUND, "/proc/net/dev: no interface %s", sampler->interface);
    }
    fclose(file);
    return err;
}

// proc(5): "cpu user nice system idle iowait irq softirq steal …"; guest time is part of user time.
static tob_error read_cpu(const tob_headend_sampler *sampler, reading *to, tob_problem *ret_problem) {
    enum { IDLE = 3, IOWAIT = 4, FIELDS = 8 };
    uint64_t t[FIELDS] = {0};
    FILE *file = NULL;
    tob_error err = tob_system_open(sampler->root, "/proc/stat", &file, ret_problem);
    if (err) {
        return err;
    }
    int found = fscanf(file,
                       "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                       " %" SCNu64,
                       &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]);
    fclose(file);
    if (found <= IDLE) {
        return tob_problem_set(ret_problem, TOB_MALFORMED, "/proc/stat: no line of cpu times");
    }
    for (size_t i = 0; i < FIELDS; i++) {
        to->cpu_total += t[i];
    }
    to->cpu_busy = to->cpu_total - t[IDLE] - t[IOWAIT];
    return TOB_OK;
}

static tob_error read_memory(const tob_headend_sampler *sampler, tob_headend_sample *sample,
                             tob_problem *ret_problem) {
    FILE *file = NULL;
    char line[256];
    uint64_t total_kib = 0;
    uint64_t available_kib = 0;
    unsigned found = 0;
    tob_error err = tob_system_open(sampler->root, "/proc/meminfo", &file, ret_problem);
    if (err) {
        return err;
    }
    while (found < 2 && fgets(line, sizeof(line), file)) {
        found += sscanf(line, "MemTotal: %" SCNu64 " kB", &total_kib) == 1;
        found += sscanf(line, "MemAvailable: %" SCNu64 " kB", &available_kib) == 1;
    }
    fclose(file);
    if (found < 2 || available_kib > total_kib) {
        return tob_problem_set(ret_problem, TOB_MALFORMED, "/proc/meminfo: no MemTotal and MemAvailable");
    }
    sample->values[TOB_HEADEND_MEMORY_USAGE] = (double)(total_kib - available_kib) * 1024;
    sample->present |= 1u << TOB_HEADEND_MEMORY_USAGE;
    return TOB_OK;
}

static const traffic *find_interface(const reading *in, const char *name, size_t hint) {
    if (hint < in->interface_count && strcmp(in->interfaces[hint].interface, name) == 0) {
        return &in->interfaces[hint]; // the usual case: the list did not change
    }
    for (size_t i = 0; i < in->interface_count; i++) {
        if (strcmp(in->interfaces[i].interface, name) == 0) {
            return &in->interfaces[i];
        }
    }
    return NULL;
}

// Bandwidth is summed from each interface's own growth, so that one that comes, goes or starts again at 0
// does not make a jump or a negative rate.
static void set_rates(const reading *last, const reading *now, tob_headend_sample *sample) {
    double seconds = (double)(now->at_ns - last->at_ns) / 1e9;
    double in = 0;
    double out = 0;
    for (size_t i = 0; i < now->interface_count; i++) {
        const traffic *t = &now->interfaces[i];
        const traffic *before = find_interface(last, t->interface, i);
        in += before && t->in >= before->in ? (double)(t->in - before->in) : 0;
        out += before && t->out >= before->out ? (double)(t->out - before->out) : 0;
    }
    sample->values[TOB_HEADEND_BANDWIDTH_IN] = in / seconds;
    sample->values[TOB_HEADEND_BANDWIDTH_OUT] = out / seconds;
    sample->present |= 1u << TOB_HEADEND_BANDWIDTH_IN | 1u << TOB_HEADEND_BANDWIDTH_OUT;

    // The kernel's idle and iowait counts may step back a little (proc(5)); no growth at all says nothing.
    if (now->cpu_total > last->cpu_total) {
        double busy = now->cpu_busy > last->cpu_busy ? (double)(now->cpu_busy - last->cpu_busy) : 0;
        double percent = 100 * busy / (double)(now->cpu_total - last->cpu_total);
        sample->values[TOB_HEADEND_CPU_USAGE] = percent < 100 ? percent : 100;
        sample->present |= 1u << TOB_HEADEND_CPU_USAGE;
    }
}

tob_error tob_headend_sampler_read_at(tob_headend_sampler *sampler, uint64_t now_ns, tob_headend_sample *ret,
                                      tob_problem *ret_problem) {
    tob_headend_sample sample = {.time_unix_ms = (int64_t)tob_clock_unix_ms()};
    reading *now = &sampler->now;
    now->at_ns = now_ns;
    now->cpu_busy = now->cpu_total = 0;
    now->interface_count = 0;
    tob_error err = read_connections(sampler, &sample, ret_problem);
    if (!err) {
        err = read_memory(sampler, &sample, ret_problem);
    }
    if (!err) {
        err = read_traffic(sampler, now, ret_problem);
    }
    if (!err) {
        err = read_cpu(sampler, now, ret_problem);
    }
    if (err) {
        return err;
    }
    if (sampler->last.at_ns && now_ns > sampler->last.at_ns) {
        set_rates(&sampler->last, now, &sample);
    }
    sampler->last = *now;
    *ret = sample;
    return TOB_OK;
}

tob_error tob_headend_sampler_read(tob_headend_sampler *sampler, tob_headend_sample *ret,
                                   tob_problem *ret_problem) {
    return tob_headend_sampler_read_at(sampler, tob_clock_monotonic_ns(), ret, ret_problem);
}
