#include "support.h"

#define HTTP TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_HTTP_REQUESTS
#define AUTH TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS

// A process with one counter: auth attempts of type jwt that succeeded.
typedef struct one {
    Tobogganing__V1__Process process;
    Tobogganing__V1__Counter counter;
    Tobogganing__V1__Counter *counters[1];
    char *labels[2];
} one;

static void init_one(one *o, uint64_t id, uint64_t value) {
    tobogganing__v1__process__init(&o->process);
    tobogganing__v1__counter__init(&o->counter);
    o->labels[0] = (char *)"jwt";
    o->labels[1] = (char *)"success";
    o->counter.family = AUTH;
    o->counter.n_labels = 2;
    o->counter.labels = o->labels;
    o->counter.value = value;
    o->counters[0] = &o->counter;
    o->process.id = id;
    o->process.n_counters = 1;
    o->process.counters = o->counters;
}

// Applies a message of one ingestd with processes given as pairs of id and value, ended by id 0.
#define apply(manager, ...) apply_of(manager, 0, __VA_ARGS__)

static void apply_of(tob_manager *manager, unsigned owner, ...) {
    one ones[8];
    Tobogganing__V1__Process *processes[8];
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    va_list args;
    va_start(args, owner);
    for (int id = va_arg(args, int); id; id = va_arg(args, int)) {
        size_t i = message.n_processes++;
        init_one(&ones[i], (uint64_t)id, (uint64_t)va_arg(args, int));
        processes[i] = &ones[i].process;
    }
    va_end(args);
    message.processes = processes;
    uint64_t ignored = 99;
    assert_int_equal(tob_manager_apply(manager, owner, &message, 1000, &ignored), TOB_OK);
    assert_int_equal(ignored, 0);
}

static uint64_t value_of(tob_manager *manager, const char *block) {
    for (int family = HTTP; family <= 4; family++) {
        tob_manager_counter c = {0};
        size_t at = 0;
        while (tob_manager_next(manager, (Tobogganing__V1__CounterFamily)family, &at, &c) == TOB_OK) {
            if (c.block_len == strlen(block) && memcmp(c.block, block, c.block_len) == 0) {
                return c.value;
            }
        }
    }
    fail_msg("no counter %s", block);
    return 0;
}

static uint64_t total(tob_manager *manager) {
    return value_of(manager, "type=\"jwt\",result=\"success\"");
}

static void counters_of_all_processes_are_added_up(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    assert_int_equal(total(manager), 0);
    apply(manager, 10, 5, 11, 7, 0);
    assert_int_equal(total(manager), 12);
    apply(manager, 10, 6, 11, 7, 0);
    assert_int_equal(total(manager), 13);
    tob_manager_free(manager);
}

static void a_restart_of_a_process_keeps_what_it_had_counted(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    apply(manager, 10, 5, 11, 7, 0);
    apply(manager, 11, 7, 0); // 10 is gone
    assert_int_equal(total(manager), 12);
    apply(manager, 11, 7, 12, 2, 0); // and back under another id
    assert_int_equal(total(manager), 14);
    apply(manager, 10, 5, 11, 7, 12, 2, 0); // it was only left out: counted once
    assert_int_equal(total(manager), 14);
    tob_manager_free(manager);
}

static void a_counter_never_decreases(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    apply(manager, 10, 5, 0);
    apply(manager, 10, 3, 0); // ingestd lost its latest
    assert_int_equal(total(manager), 5);
    apply(manager, 10, 6, 0);
    assert_int_equal(total(manager), 6);
    tob_manager_free(manager);
}

static void a_process_that_ingestd_adds_to_its_own_sum_is_counted_once(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    apply(manager, 10, 5, 11, 7, 0);
    apply(manager, TOB_PROCESS_RETIRED, 5, 11, 7, 0);
    assert_int_equal(total(manager), 12);
    apply(manager, TOB_PROCESS_RETIRED, 5, 11, 8, 0);
    assert_int_equal(total(manager), 13);
    apply(manager, TOB_PROCESS_RETIRED, 5, 0); // 11 is gone, but not in the sum
    assert_int_equal(total(manager), 13);
    tob_manager_free(manager);

    manager = new_manager();
    apply(manager, 10, 5, 11, 7, 0);
    apply(manager, TOB_PROCESS_RETIRED, 5, 0); // 11 was lost in the same moment
    assert_int_equal(total(manager), 12);
    tob_manager_free(manager);
}

static tob_error apply_labels(tob_manager *manager, Tobogganing__V1__CounterFamily family, size_t n,
                              char **labels, uint64_t value, uint64_t *ret_ignored) {
    one o;
    init_one(&o, 10, value);
    o.counter.family = family;
    o.counter.n_labels = n;
    o.counter.labels = labels;
    Tobogganing__V1__Process *processes[] = {&o.process};
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    message.n_processes = 1;
    message.processes = processes;
    message.clusters = 3;
    message.clients = 4;
    return tob_manager_apply(manager, 0, &message, 1000, ret_ignored);
}

static void counters_that_break_the_rules_are_left_out(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    char longest[66];
    memset(longest, 'x', sizeof(longest));
    longest[65] = 0;
    char *good[] = {(char *)"GET", (char *)"/a\"b", (char *)"200"};
    char *too_long[] = {(char *)"GET", longest, (char *)"200"};
    char *control[] = {(char *)"GET", (char *)"/a\nb", (char *)"200"};
    uint64_t ignored = 0;
    assert_int_equal(apply_labels(manager, HTTP, 3, too_long, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 1);
    longest[64] = 0;
    assert_int_equal(apply_labels(manager, HTTP, 3, too_long, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 0);
    assert_int_equal(apply_labels(manager, HTTP, 3, control, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 1);
    assert_int_equal(apply_labels(manager, HTTP, 2, good, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 1);
    assert_int_equal(apply_labels(manager, 0, 0, NULL, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 1);
    assert_int_equal(apply_labels(manager, (Tobogganing__V1__CounterFamily)77, 0, NULL, 1, &ignored), TOB_OK);
    assert_int_equal(ignored, 1);
    assert_int_equal(apply_labels(manager, HTTP, 3, good, 8, &ignored), TOB_OK);
    assert_int_equal(ignored, 0);
    assert_int_equal(value_of(manager, "method=\"GET\",endpoint=\"/a\\\"b\",status=\"200\""), 8);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLUSTERS), 3);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 4);
    tob_manager_free(manager);
}

static void label_sets_and_processes_are_capped(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    uint64_t ignored = 0;
    uint64_t left_out = 0;
    for (int i = 0; i < TOB_MANAGER_MAX_COUNTERS; i++) { // some are there from the start
        char status[16];
        snprintf(status, sizeof(status), "%d", i);
        char *labels[] = {(char *)"GET", (char *)"/", status};
        assert_int_equal(apply_labels(manager, HTTP, 3, labels, 1, &ignored), TOB_OK);
        left_out += ignored;
    }
    assert_true(left_out > 0 && left_out < 20);
    tob_manager_free(manager);

    // A process that is long gone makes room, and its count stays.
    manager = new_manager();
    for (int i = 0; i <= TOB_MANAGER_MAX_PROCESSES; i++) {
        apply(manager, 10 + i, 1, 0);
    }
    assert_int_equal(total(manager), TOB_MANAGER_MAX_PROCESSES + 1);
    tob_manager_free(manager);
}

static void processes_of_several_ingestd_are_added_up(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    tob_manager_begin_owner(manager, 0, 100);
    tob_manager_begin_owner(manager, 1, 200);
    apply_of(manager, 0, 10, 5, 0);
    apply_of(manager, 1, 20, 7, 0);
    apply_of(manager, 0, 10, 6, 0);
    apply_of(manager, 0, 10, 6, 0);
    apply_of(manager, 1, 20, 7, 0);
    assert_int_equal(total(manager), 13);
    tob_manager_free(manager);
}

static void what_an_ingestd_retires_is_its_own(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    tob_manager_begin_owner(manager, 0, 100);
    tob_manager_begin_owner(manager, 1, 200);
    apply_of(manager, 0, 10, 5, 0);
    apply_of(manager, 1, 20, 7, 0);
    apply_of(manager, 0, TOB_PROCESS_RETIRED, 5, 0); // has 10, not 20
    assert_int_equal(total(manager), 12);
    apply_of(manager, 1, TOB_PROCESS_RETIRED, 7, 0); // another sum under the same id
    assert_int_equal(total(manager), 12);
    apply_of(manager, 1, TOB_PROCESS_RETIRED, 7, 21, 1, 0);
    apply_of(manager, 0, TOB_PROCESS_RETIRED, 5, 11, 1, 0);
    assert_int_equal(total(manager), 14);
    tob_manager_free(manager);
}

static void the_counts_of_a_forgotten_ingestd_stay_and_are_not_counted_again(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    tob_manager_begin_owner(manager, 0, 100);
    apply_of(manager, 0, TOB_PROCESS_RETIRED, 3, 10, 5, 0);
    tob_manager_forget(manager, 0);
    tob_manager_begin_owner(manager, 0, 200);
    apply_of(manager, 0, TOB_PROCESS_RETIRED, 1, 20, 2, 0);
    assert_int_equal(total(manager), 11);
    tob_manager_begin_owner(manager, 7, 100); // it was only away, and gets another slot
    apply_of(manager, 7, TOB_PROCESS_RETIRED, 3, 10, 6, 0);
    assert_int_equal(total(manager), 12);
    tob_manager_free(manager);
}

static void apply_sizes(tob_manager *manager, unsigned owner, uint64_t clusters, uint64_t clients,
                        uint64_t monotonic_ms) {
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    uint64_t ignored = 0;
    message.clusters = clusters;
    message.clients = clients;
    assert_int_equal(tob_manager_apply(manager, owner, &message, monotonic_ms, &ignored), TOB_OK);
}

static void the_registrys_sizes_are_the_greatest_of_those_heard_lately(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    apply_sizes(manager, 0, 3, 100, 1000);
    apply_sizes(manager, 1, 3, 99, 2000);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 100);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLUSTERS), 3);
    apply_sizes(manager, 1, 2, 98, 1000 + TOB_MANAGER_GAUGE_MS);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 100);
    apply_sizes(manager, 1, 2, 98, 1001 + TOB_MANAGER_GAUGE_MS);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 98);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLUSTERS), 2);
    apply_sizes(manager, 0, 2, 101, 2000 + TOB_MANAGER_GAUGE_MS);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 101);
    tob_manager_forget(manager, 0);
    apply_sizes(manager, 1, 2, 97, 2001 + TOB_MANAGER_GAUGE_MS);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_CLIENTS), 97);
    tob_manager_free(manager);
}

// What one ingestd says of rotation: how many are on their previous key, and ends of types as pairs, ended by NULL.
static void apply_rotation(tob_manager *manager, unsigned owner, uint64_t on_previous_key,
                           uint64_t monotonic_ms, ...) {
    Tobogganing__V1__CertificateExpiry rows[8];
    Tobogganing__V1__CertificateExpiry *expiries[8];
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    uint64_t ignored = 0;
    va_list args;
    va_start(args, monotonic_ms);
    for (const char *type = va_arg(args, const char *); type; type = va_arg(args, const char *)) {
        size_t i = message.n_certificate_expiries++;
        tobogganing__v1__certificate_expiry__init(&rows[i]);
        rows[i].type = (char *)type;
        rows[i].not_after_unix_s = (uint64_t)va_arg(args, int);
        expiries[i] = &rows[i];
    }
    va_end(args);
    message.clients_on_previous_key = on_previous_key;
    message.certificate_expiries = expiries;
    assert_int_equal(tob_manager_apply(manager, owner, &message, monotonic_ms, &ignored), TOB_OK);
}

static void clients_on_their_previous_key_are_added_up_over_those_heard_lately(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    apply_rotation(manager, 0, 5, 1000, NULL);
    apply_rotation(manager, 1, 7, 2000, NULL);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_ON_PREVIOUS_KEY), 12);
    apply_rotation(manager, 1, 2, 2001, NULL);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_ON_PREVIOUS_KEY), 7);
    apply_rotation(manager, 1, 2, 1001 + TOB_MANAGER_GAUGE_MS, NULL);
    assert_int_equal(tob_manager_gauge(manager, TOB_GAUGE_ON_PREVIOUS_KEY), 2);
    tob_manager_free(manager);
}

static void of_the_ends_of_certificates_the_soonest_counts(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_CA), 0);
    apply_rotation(manager, 0, 0, 1000, "ca", 500, "client", 300, "new", 1, NULL);
    apply_rotation(manager, 1, 0, 2000, "ca", 400, "headend", 200, NULL);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_CA), 400);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_CLIENT), 300);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_HEADEND), 200);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_SERVER), 0);
    apply_rotation(manager, 0, 0, 3000, "ca", 500, NULL); // the client's is revoked
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_CLIENT), 0);
    tob_manager_forget(manager, 1);
    apply_rotation(manager, 0, 0, 4000, "ca", 500, NULL);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_CA), 500);
    assert_int_equal(tob_manager_expiry(manager, TOB_CERTIFICATE_HEADEND), 0);
    tob_manager_free(manager);
}

static void owners_are_capped(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    uint64_t ignored = 0;
    assert_int_equal(tob_manager_apply(manager, TOB_MANAGER_MAX_OWNERS, &message, 1, &ignored), TOB_INVALID);
    assert_int_equal(tob_manager_apply(manager, TOB_MANAGER_MAX_OWNERS - 1, &message, 1, &ignored), TOB_OK);
    tob_manager_free(manager);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_of_all_processes_are_added_up),
        cmocka_unit_test(a_restart_of_a_process_keeps_what_it_had_counted),
        cmocka_unit_test(a_counter_never_decreases),
        cmocka_unit_test(a_process_that_ingestd_adds_to_its_own_sum_is_counted_once),
        cmocka_unit_test(counters_that_break_the_rules_are_left_out),
        cmocka_unit_test(label_sets_and_processes_are_capped),
        cmocka_unit_test(processes_of_several_ingestd_are_added_up),
        cmocka_unit_test(what_an_ingestd_retires_is_its_own),
        cmocka_unit_test(the_counts_of_a_forgotten_ingestd_stay_and_are_not_counted_again),
        cmocka_unit_test(the_registrys_sizes_are_the_greatest_of_those_heard_lately),
        cmocka_unit_test(clients_on_their_previous_key_are_added_up_over_those_heard_lately),
        cmocka_unit_test(of_the_ends_of_certificates_the_soonest_counts),
        cmocka_unit_test(owners_are_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
