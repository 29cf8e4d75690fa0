// The documented JSON bodies (lib/report), as clients' and headends' both.
//
// Promises: an accepted report has values in range, only known bits and a valid name; a refused one has a reason
// that can be put into an HTTP answer.
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "report/report.h"

enum { MAX_INPUT_BYTES = 64 << 10 };

static void check_problem(tob_error err, const tob_report_problem *problem) {
    FUZZ_CHECK(err == TOB_MALFORMED || err == TOB_INVALID || err == TOB_TOO_LARGE);
    size_t len = strnlen(problem->text, sizeof(problem->text));
    FUZZ_CHECK(len > 0 && len < sizeof(problem->text));
    FUZZ_CHECK(tob_utf8_valid(problem->text, len));
}

static void check_client(const uint8_t *data, size_t n) {
    tob_client_report report;
    tob_report_problem problem = {.text = ""};
    tob_error err = tob_report_parse_client(data, n, &report, &problem);
    if (err) {
        check_problem(err, &problem);
        return;
    }
    FUZZ_CHECK(report.sample.present >> TOB_CLIENT_METRICS == 0);
    FUZZ_CHECK(report.unknown_metrics <= TOB_REPORT_MAX_METRICS);
    for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
        FUZZ_CHECK(!(report.sample.present >> m & 1) || report.sample.values[m] >= 0);
    }
}

static void check_headend(const uint8_t *data, size_t n) {
    tob_headend_report report;
    tob_report_problem problem = {.text = ""};
    tob_error err = tob_report_parse_headend(data, n, &report, &problem);
    if (err) {
        check_problem(err, &problem);
        return;
    }
    FUZZ_CHECK(report.sample.present >> TOB_HEADEND_METRICS == 0);
    FUZZ_CHECK(tob_name_valid(report.name, strnlen(report.name, sizeof(report.name))));
    for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
        double value = report.sample.values[m];
        FUZZ_CHECK(!(report.sample.present >> m & 1) ||
                   (isfinite(value) && value >= 0 && value <= 9223372036854775808.0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n <= MAX_INPUT_BYTES) {
        check_client(data, n);
        check_headend(data, n);
    }
    return 0;
}
