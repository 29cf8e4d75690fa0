#include <poll.h>

#include "tests/unit/gateway/fixture.h"

static void each_rejection_is_its_own_requests_status(void **state) {
    fixture *f = start();
    int fds[6];
    char request[1000];
    static const char *const paths[] = {CLIENT,
                                        "/api/v1/clients/bad1/metrics",
                                        HEADEND,
                                        "/api/v1/headends/bad2/metrics",
                                        "/api/v1/clients/c2/metrics",
                                        CLIENT};
    static const char *const want[] = {"HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200",
                                       "HTTP/1.1 403", "HTTP/1.1 200", "HTTP/1.1 200"};
    (void)state;
    f->reject = "bad";
    for (int i = 0; i < 6; i++) {
        fds[i] = peer_dial(tob_gateway_port(f->gateway));
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 6; i++) {
            peer_put_bytes(fds[i], request, compose(request, sizeof(request), paths[i], JSON, "{}", 2));
        }
        for (int i = 0; i < 6; i++) {
            assert_has(peer_get(fds[i]), want[i]);
        }
    }
    for (int i = 0; i < 6; i++) {
        close(fds[i]);
    }
    stop(f);
}

static void wait_held(fixture *f, size_t count) {
    pthread_mutex_lock(&f->mutex);
    while (f->held_count < count) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}

static void reports_gather_while_batches_are_under_way(void **state) {
    enum { SENDERS = 200 };
    fixture *f = start();
    int fds[SENDERS];
    char request[1000];
    (void)state;
    f->holds = true;
    for (int i = 0; i < SENDERS; i++) {
        fds[i] = peer_dial(tob_gateway_port(f->gateway));
        peer_put_bytes(fds[i], request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
        if (i < TOB_BATCHER_IN_FLIGHT) {
            wait_held(f, (size_t)i + 1);
        }
    }
    // A request that is answered by itself shows that those before it were read.
    int last = peer_dial(tob_gateway_port(f->gateway));
    peer_put(last, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(last), "HTTP/1.1 200");
    assert_int_equal(f->batches, TOB_BATCHER_IN_FLIGHT);
    release_held(f);
    for (int i = 0; i < SENDERS; i++) {
        assert_has(peer_get(fds[i]), "HTTP/1.1 200");
        close(fds[i]);
    }
    close(last);
    assert_int_equal(f->series, SENDERS);
    assert_true(f->largest > SENDERS / 4);
    stop(f);
}

// The one that is too many is whoever was read last.
static size_t first_answered(const int *fds, size_t n) {
    struct pollfd *polled = calloc(n, sizeof(*polled));
    size_t first = 0;
    for (size_t i = 0; i < n; i++) {
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    assert_true(poll(polled, n, PEER_DEADLINE_MS / 2) > 0);
    while (!polled[first].revents) {
        first++;
    }
    free(polled);
    return first;
}

static void one_report_more_than_may_wait_is_503(void **state) {
    enum { SENDERS = TOB_BATCHER_IN_FLIGHT + TOB_BATCHER_MAX_SERIES + 1 };
    static int fds[SENDERS];
    fixture *f = start();
    char request[1000];
    (void)state;
    f->holds = true;
    for (size_t i = 0; i < SENDERS; i++) {
        fds[i] = peer_dial(tob_gateway_port(f->gateway));
        peer_put_bytes(fds[i], request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
        if (i < TOB_BATCHER_IN_FLIGHT) {
            wait_held(f, i + 1);
        }
    }
    size_t refused = first_answered(fds, SENDERS);
    const char *text = peer_get(fds[refused]);
    assert_has(text, "HTTP/1.1 503");
    assert_has(text, "retry-after: 1\r\n");
    release_held(f);
    for (size_t i = 0; i < SENDERS; i++) {
        if (i != refused) {
            assert_has(peer_get(fds[i]), "HTTP/1.1 200");
        }
        close(fds[i]);
    }
    stop(f);
}

static void a_failed_call_answers_all_of_its_requests(void **state) {
    fixture *f = start();
    (void)state;
    f->fails = TOB_BUSY;
    const char *text = post(f, CLIENT, "{}");
    assert_has(text, "HTTP/1.1 503");
    assert_has(text, "retry-after: 3\r\n");
    assert_has(text, "ingestd says no");
    f->fails = TOB_INVALID;
    assert_has(post(f, CLIENT, "{}"), "HTTP/1.1 502");
    f->fails = TOB_OK;
    assert_has(post(f, CLIENT, "{}"), "HTTP/1.1 200");
    stop(f);
}

static void a_report_that_nobody_answers_ends_at_its_deadline(void **state) {
    fixture *f = start_with(300);
    int fds[TOB_BATCHER_IN_FLIGHT + 1];
    char request[1000];
    (void)state;
    f->holds = true;
    for (size_t i = 0; i < TOB_BATCHER_IN_FLIGHT + 1; i++) {
        fds[i] = peer_dial(tob_gateway_port(f->gateway));
        peer_put_bytes(fds[i], request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
        if (i < TOB_BATCHER_IN_FLIGHT) {
            wait_held(f, i + 1);
        }
    }
    for (size_t i = 0; i < TOB_BATCHER_IN_FLIGHT + 1; i++) {
        const char *text = peer_get(fds[i]);
        assert_has(text, i < TOB_BATCHER_IN_FLIGHT ? "HTTP/1.1 504" : "HTTP/1.1 50");
        assert_has(text, "retry-after: 1\r\n");
        close(fds[i]);
    }
    stop(f);
}

static void a_sender_that_leaves_does_not_disturb_the_others(void **state) {
    fixture *f = start();
    char request[1000];
    (void)state;
    f->holds = true;
    int gone = peer_dial(tob_gateway_port(f->gateway));
    int stays = peer_dial(tob_gateway_port(f->gateway));
    struct linger reset = {.l_onoff = 1};
    peer_put_bytes(gone, request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
    wait_held(f, 1);
    peer_put_bytes(stays, request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
    wait_held(f, 2);
    setsockopt(gone, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(gone);
    release_held(f);
    assert_has(peer_get(stays), "HTTP/1.1 200");
    close(stays);
    stop(f);
}

// As peer_dial, from 127.0.0.HOST.
static int dial_from(const fixture *f, unsigned host) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct timeval timeout = {.tv_sec = PEER_DEADLINE_MS / 1000};
    from.sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~0xffu) | host);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(tob_gateway_port(f->gateway));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void a_batch_says_which_address_each_report_came_from(void **state) {
    enum { FIRST = TOB_BATCHER_IN_FLIGHT, SENDERS = 4 };
    static const char *const paths[SENDERS] = {"/api/v1/clients/from-3/metrics",
                                               "/api/v1/headends/from-4/metrics",
                                               "/api/v1/clients/from-5/metrics",
                                               "/api/v1/clients/from-6/metrics"};
    fixture *f = start();
    char request[1000];
    int first[FIRST], fds[SENDERS];
    (void)state;
    f->holds = true;
    for (unsigned i = 0; i < FIRST; i++) {
        first[i] = dial_from(f, 2);
        peer_put_bytes(first[i], request, compose(request, sizeof(request), CLIENT, JSON, "{}", 2));
        wait_held(f, i + 1);
        assert_int_equal(f->last_peer_count, 1);
        assert_string_equal(f->last_peers[0], "127.0.0.2");
        assert_string_equal(f->last_bearer, "cluster-secret"); // or nobody would believe it
    }
    for (unsigned i = 0; i < SENDERS; i++) { // these gather
        fds[i] = dial_from(f, 3 + i);
        peer_put_bytes(fds[i], request, compose(request, sizeof(request), paths[i], JSON, "{}", 2));
    }
    int last = peer_dial(tob_gateway_port(f->gateway));
    peer_put(last, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(last), "HTTP/1.1 200"); // they were read before this
    close(last);
    release_held(f);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_has(peer_get(fds[i]), "HTTP/1.1 200");
        close(fds[i]);
    }
    assert_int_equal(f->last_peer_count, SENDERS);
    for (size_t i = 0; i < SENDERS; i++) {
        const char *id = i < f->last->n_clients ? f->last->clients[i]->client_id
                                                : f->last->headends[i - f->last->n_clients]->headend_id;
        assert_string_equal(f->last_peers[i] + strlen("127.0.0."), id + strlen("from-"));
    }
    for (unsigned i = 0; i < FIRST; i++) {
        close(first[i]);
    }
    stop(f);
}

static void a_limited_report_is_429_with_the_time_to_wait(void **state) {
    fixture *f = start();
    (void)state;
    f->reject = "c";
    const char *text = post(f, CLIENT, "{}");
    assert_has(text, "HTTP/1.1 401");
    assert_null(strstr(text, "etry-"));
    f->limited_ms = 1500;
    text = post(f, CLIENT, "{}");
    assert_has(text, "HTTP/1.1 429");
    assert_has(text, "etry-after: 2\r\n"); // whole seconds (RFC 9110 §10.2.3)
    stop(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rejection_is_its_own_requests_status),
        cmocka_unit_test(reports_gather_while_batches_are_under_way),
        cmocka_unit_test(one_report_more_than_may_wait_is_503),
        cmocka_unit_test(a_failed_call_answers_all_of_its_requests),
        cmocka_unit_test(a_report_that_nobody_answers_ends_at_its_deadline),
        cmocka_unit_test(a_sender_that_leaves_does_not_disturb_the_others),
        cmocka_unit_test(a_batch_says_which_address_each_report_came_from),
        cmocka_unit_test(a_limited_report_is_429_with_the_time_to_wait),
    };
    tob_raise_fd_limit(); // both ends of a thousand connections are here
    return cmocka_run_group_tests(tests, NULL, NULL);
}
