"""Who tries wrong credentials is slowed down by his address; right ones are let in from anywhere, always."""
import http.client
import itertools
import json
import threading
import time

import pytest

from harness import DEADLINE, own_address, session_from, wait_until
from sp import RpcError

ATTEMPTS = "tobogganing_manager_auth_attempts_total"
BURST = 50  # wrong attempts, and one more each second
FLOOD = 10000
ATTACKERS = 4

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("k1", region="eu", datacenter="d1")
    cluster.keys = {name: cluster.add_client(name, cluster="k1") for name in ("near", "beside", "c1")}
    cluster.token = cluster.add_headend("h1", cluster="k1")
    return cluster


class Door:
    """A kept-alive connection to the gateway from one address."""

    def __init__(self, fleet, address):
        self.connection = http.client.HTTPConnection("127.0.0.1", fleet.ports["gateway"], timeout=DEADLINE,
                                                     source_address=(address, 0))

    def ask(self, method, path, token, body=None):
        headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status == 429:
            assert int(response.headers["Retry-After"]) >= 1
            assert "error" in json.loads(text)
        return response.status

    def report(self, client_id, key):
        return self.ask("POST", f"/api/v1/clients/{client_id}/metrics", key, {"metrics": {"bytes_sent": 1}})

    def close(self):
        self.connection.close()


def until_limited(attempt, limit=4 * BURST):
    """Makes wrong attempts until one is limited; how many were not."""
    for n in range(limit):
        if attempt() == 429:
            return n
    raise AssertionError(f"{limit} wrong attempts were not limited")


def in_threads(jobs):
    """Runs the jobs, each in a thread, and raises what one of them raised."""
    problems = []

    def run(job):
        try:
            job()
        except BaseException as problem:  # noqa: all of them fail the test
            problems.append(problem)
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def test_ten_thousand_wrong_keys_do_not_slow_a_good_client(fleet, capsys):
    before = {result: fleet.attempts("api_key", result) for result in ("success", "failure", "limited")}
    statuses, latencies, done = [], {"near": [], "beside": []}, threading.Event()
    left = itertools.count()

    def attack():
        door = Door(fleet, "127.0.0.2")
        while (number := next(left)) < FLOOD:
            name = "near" if number % 2 else f"guess-{number}"
            statuses.append(door.report(name, f"tobk_guess-{number}"))
        door.close()

    def good(name, address):
        door = Door(fleet, address)
        while not done.is_set():
            start = time.monotonic()
            assert door.report(name, fleet.keys[name]) == 200
            latencies[name].append(time.monotonic() - start)
        door.close()

    def attack_all():
        try:
            in_threads([attack] * ATTACKERS)
        finally:
            done.set()
    start = time.monotonic()
    in_threads([attack_all, lambda: good("near", "127.0.0.1"), lambda: good("beside", "127.0.0.2")])
    took = time.monotonic() - start

    assert len(statuses) == FLOOD and set(statuses) == {401, 429}
    told = statuses.count(401)
    assert BURST <= told <= BURST + took + 1, f"{told} of {FLOOD} were told what was wrong, in {took:.1f} s"
    reports = sum(len(times) for times in latencies.values())
    fleet.wait_value(ATTEMPTS, before["limited"] + FLOOD - told, type="api_key", result="limited")
    fleet.wait_value(ATTEMPTS, before["failure"] + told, type="api_key", result="failure")
    fleet.wait_value(ATTEMPTS, before["success"] + reports, type="api_key", result="success")
    with capsys.disabled():
        for name, times in latencies.items():
            times.sort()
            print(f"\n{name}: {len(times)} reports in {took:.1f} s, median {times[len(times) // 2] * 1000:.1f} ms, "
                  f"99 % within {times[len(times) * 99 // 100] * 1000:.1f} ms, all accepted", end="")


def test_it_is_logged_once(fleet):
    lines = [line for line in fleet.ingestd.log().splitlines()
             if "event=credentials_limited" in line and "address=127.0.0.2 " in line]
    assert len(lines) == 1, lines
    assert "type=api_key" in lines[0] and "tobk_" not in fleet.ingestd.log() + fleet.gateway.log()


def test_wrong_admin_tokens_are_limited_and_a_right_one_is_let_in(fleet):
    door, other = Door(fleet, own_address()), Door(fleet, own_address())
    statuses = [401] * until_limited(lambda: door.ask("GET", "/api/v1/clients", "wrong")) + [429]
    assert len(statuses) > BURST
    for _ in range(20):
        statuses.append(door.ask("GET", "/api/v1/clients", "wrong"))
        assert door.ask("GET", "/api/v1/clients", fleet.admin_token) == 200
    statuses.append(other.ask("GET", "/api/v1/clients", "wrong"))
    assert statuses[-1] == 401
    fleet.wait_value(ATTEMPTS, statuses.count(429), type="admin", result="limited")  # none before this test
    fleet.wait_value(ATTEMPTS, statuses.count(401), type="admin", result="failure")
    door.close()
    other.close()


def test_the_limit_recovers(fleet):
    door = Door(fleet, own_address())
    assert until_limited(lambda: door.report("c1", "wrong")) >= BURST
    wait_until(lambda: door.report("c1", "wrong") == 401, "one more is looked at again")
    until_limited(lambda: door.report("c1", "wrong"), 3)
    door.close()


def test_reading_back_and_rotating_count_too(fleet):
    for method, path in (("GET", "/api/v1/clients/c1/metrics"), ("POST", "/api/v1/clients/c1/rotate-key")):
        door = Door(fleet, own_address())
        assert until_limited(lambda m=method, p=path, d=door: d.ask(m, p, "wrong", {} if m == "POST" else None)) >= BURST
        assert door.report("c1", fleet.keys["c1"]) == 200
        assert door.report("c1", "wrong") == 429  # one limit for all doors
        door.close()


def test_over_rpc_admins_are_told_when_to_come_back(fleet):
    request, answer = fleet.pb.registry.ListRequest(), fleet.pb.registry.ListClientsResponse
    address, waits = own_address(), []
    with fleet.rpc(bearer="wrong", source=address) as rpc:
        for _ in range(BURST + 10):
            with pytest.raises(RpcError) as failure:
                rpc.call("/tobogganing.v1.Registry/ListClients", request, answer)
            assert failure.value.code == "UNAUTHENTICATED"
            waits.append(failure.value.response.retry_after_ms)
    assert waits[:BURST] == [0] * BURST and 0 < max(waits[BURST:]) <= 1000
    with fleet.rpc(bearer=fleet.admin_token, source=address) as rpc:
        assert rpc.call("/tobogganing.v1.Registry/ListClients", request, answer).clients


def wrong_series(fleet, count, **more):
    batch = fleet.pb.ingest.Batch(agent_id="py", boot_id=9, number=next(_numbers))
    for _ in range(count):
        batch.clients.add(client_id="c1", time_unix_ms=[int(time.time() * 1000)], bytes_sent=[1])
    return fleet.pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=["wrong"] * count, **more)


def limited_series(response):
    return sum(rejection.retry_after_ms > 0 for rejection in response.rejected)


def test_series_of_a_batch_are_limited_one_by_one(fleet):
    with fleet.rpc(source=own_address()) as rpc:
        response = rpc.submit(wrong_series(fleet, 1000))
        assert len(response.rejected) == 1000
        assert {rejection.code for rejection in response.rejected} == {fleet.pb.rpc.CODE_UNAUTHENTICATED}
        assert 900 <= limited_series(response) <= 1000 - BURST
        batch = fleet.pb.ingest.Batch(agent_id="py", boot_id=9, number=next(_numbers))
        batch.clients.add(client_id="c1", time_unix_ms=[int(time.time() * 1000)], bytes_sent=[1])
        good = fleet.pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[fleet.keys["c1"]])
        assert rpc.submit(good).stored_series == 1


@pytest.mark.parametrize("bearer", [None, "wrong", "admin"])
def test_a_strangers_word_for_where_a_series_came_from_is_not_believed(fleet, bearer):
    address, victim = own_address(), own_address()
    bearer = fleet.admin_token if bearer == "admin" else bearer
    with fleet.rpc(bearer=bearer, source=address) as rpc:
        assert limited_series(rpc.submit(wrong_series(fleet, 100, peers=[victim] * 100))) > 0
    for blamed, status in ((address, 429), (victim, 401)):
        door = Door(fleet, blamed)
        assert door.report("c1", "wrong") == status
        door.close()


def test_nor_is_it_through_the_gateway(fleet):
    """Which passes such a body on, and vouches for where that came from."""
    address, victim = own_address(), own_address()
    body = wrong_series(fleet, 100, peers=[victim] * 100).SerializeToString()
    response = session_from(address).post(fleet.manager_url + "/tobogganing.v1.Ingest/Submit", data=body,
                                          headers={"Content-Type": "application/x-protobuf",
                                                   "Authorization": f"Bearer {fleet.cluster_token}"})
    assert response.status_code == 200, response.text
    answer = fleet.pb.ingest.SubmitResponse()
    answer.ParseFromString(response.content)
    assert limited_series(answer) > 0
    for blamed, status in ((address, 429), (victim, 401)):
        door = Door(fleet, blamed)
        assert door.report("c1", "wrong") == status
        door.close()


@pytest.mark.parametrize("forwarder, believed", [("cluster", True), ("admin", False), ("wrong", False), ("", False)])
def test_only_the_cluster_token_vouches_for_a_callers_address(fleet, forwarder, believed):
    tokens = {"cluster": fleet.cluster_token, "admin": fleet.admin_token}
    address, said = own_address(), own_address()
    with fleet.rpc(bearer="wrong", source=address) as rpc:
        for _ in range(BURST + 10):
            request = rpc.envelope("/tobogganing.v1.Registry/ListClients", b"")
            request.forwarded_for = said
            request.forwarded_by = f"Bearer {tokens.get(forwarder, forwarder)}" if forwarder else ""
            assert rpc.send(request).code == fleet.pb.rpc.CODE_UNAUTHENTICATED
    for host, limited in ((said, believed), (address, not believed)):
        door = Door(fleet, host)
        assert door.report("c1", "wrong") == (429 if limited else 401)
        door.close()


def test_tokens_that_are_not_known_yet_wait_where_wrong_ones_came_from(fleet):
    address = own_address()
    door, elsewhere = Door(fleet, address), Door(fleet, own_address())

    def report(where, token):
        return where.ask("POST", "/api/v1/headends/h1/metrics", token, {"metrics": {"cpu_usage": 1}})
    assert report(door, fleet.token) == 200  # known from here on
    before = fleet.attempts("jwt", "limited")
    assert until_limited(lambda: report(door, "a.b.c")) >= BURST
    fresh = fleet.headend_token("h1", "--ttl", "1h")
    statuses = []
    for _ in range(10):
        until_limited(lambda: report(door, "a.b.c"), 3)
        statuses.append(report(door, fresh))
        assert report(door, fleet.token) == 200
        if statuses[-1] == 200:
            break
    assert 429 in statuses, "its signature was checked"
    assert report(elsewhere, fresh) == 200
    assert report(door, fresh) == 200
    wait_until(lambda: fleet.attempts("jwt", "limited") > before, "they are counted")
    door.close()
    elsewhere.close()


def test_how_many_is_the_operators_choice(make_cluster):
    cluster = make_cluster(ingestd_options=("--wrong-credentials-burst", "3"))
    key = cluster.add_client("c1")
    door = Door(cluster, own_address())
    began = time.monotonic()
    refused = until_limited(lambda: door.report("c1", "wrong"))
    assert 3 <= refused <= 3 + (time.monotonic() - began) + 1  # those that came back meanwhile
    assert door.report("c1", key) == 200
    door.close()


def test_wrong_api_keys_do_not_use_up_what_a_headends_token_needs(fleet):
    address = own_address()
    door = Door(fleet, address)
    until_limited(lambda: door.report("c1", "wrong"))
    fresh = fleet.headend_token("h1")  # not seen before: its signature has to be checked
    assert door.ask("POST", "/api/v1/headends/h1/metrics", fresh, {"metrics": {"cpu_usage": 1}}) == 200
    door.close()
