#include "process_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tob_error one(long pid, double *sum_s) {
    char path[64];
    char text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) {
        return TOB_IO;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = 0;
    // The second field is the program's name in parentheses, which may hold anything.
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
        return TOB_IO;
    }
    *sum_s += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return TOB_OK;
}

tob_error process_cpu_s(const char *pids, double *ret) {
    double sum_s = 0;
    const char *at = pids;
    do {
        char *end = NULL;
        long pid = strtol(at, &end, 10);
        tob_error err = end == at || pid <= 0 ? TOB_IO : one(pid, &sum_s);
        if (err) {
            return err;
        }
        at = end + (*end == ',');
    } while (*at);
    *ret = sum_s;
    return TOB_OK;
}
