"""Keys and tokens that come and go, labels that change: through every door, and as Prometheus sees it."""
import time

import pytest

from harness import wait_until

BYTES = "tobogganing_client_bytes_sent"
CHECK_IN = "tobogganing_client_last_check_in_timestamp"
CPU = "tobogganing_headend_cpu_usage_percent"
ON_PREVIOUS = "tobogganing_manager_clients_on_previous_key"


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("k1", region="eu", datacenter="d1")
    cluster.add_cluster("k2", region="us", datacenter="d2")
    return cluster


def last(fleet, kind, name, credential):
    return fleet.session.get(f"{fleet.manager_url}/api/v1/{kind}/{name}/metrics",
                             headers={"Authorization": f"Bearer {credential}"})


def assert_client(fleet, name, key, let_in):
    """Every door of a client's key, one right after the other."""
    assert fleet.post_client(name, key, {"metrics": {"bytes_sent": 1}}).status_code == (200 if let_in else 401)
    assert fleet.submit_one(key, client=name) == ("OK" if let_in else "UNAUTHENTICATED")
    assert last(fleet, "clients", name, key).status_code == (200 if let_in else 401)


def assert_headend(fleet, name, token, let_in):
    assert fleet.post_headend(name, token, {"metrics": {"cpu_usage": 1}}).status_code == (200 if let_in else 401)
    assert fleet.submit_one(token, headend=name) == ("OK" if let_in else "UNAUTHENTICATED")
    assert last(fleet, "headends", name, token).status_code == (200 if let_in else 401)


def rotate(fleet, name, grace):
    return fleet.ctl_json("client", "rotate-key", name, "--grace", grace)["api_key"]


# --- clients' keys ---

def test_both_keys_are_good_during_the_overlap_and_then_only_the_new_one(fleet):
    old = fleet.add_client("overlap", cluster="k1")
    assert_client(fleet, "overlap", old, True)
    earliest = time.monotonic() + 10
    new = rotate(fleet, "overlap", "10s")
    latest = time.monotonic() + 10
    assert_client(fleet, "overlap", new, True)
    assert_client(fleet, "overlap", old, True)
    wait_until(lambda: fleet.post_client("overlap", old, {}).status_code == 401, "the old key is refused")
    assert time.monotonic() > earliest, "it was refused too early"
    assert time.monotonic() < latest + 5, "it was refused too late"
    assert_client(fleet, "overlap", old, False)
    assert_client(fleet, "overlap", new, True)


def test_who_still_uses_the_key_before_is_counted(fleet):
    keys = {name: fleet.add_client(name, cluster="k1") for name in ("slow-1", "slow-2", "quick")}
    new = {name: rotate(fleet, name, "1h") for name in keys}
    fleet.wait_value(ON_PREVIOUS, 0)
    for name, key in keys.items():
        assert_client(fleet, name, key, True)
    fleet.wait_value(ON_PREVIOUS, 3)
    assert_client(fleet, "quick", new["quick"], True)
    fleet.wait_value(ON_PREVIOUS, 2)
    fleet.ctl_ok("client", "revoke-previous-key", "slow-1")
    assert_client(fleet, "slow-1", keys["slow-1"], False)
    assert_client(fleet, "slow-1", new["slow-1"], True)
    fleet.wait_value(ON_PREVIOUS, 1)
    fleet.ctl_ok("client", "revoke", "slow-2")
    fleet.wait_value(ON_PREVIOUS, 0)


def test_rotating_without_an_overlap_refuses_the_old_key_on_the_next_request(fleet):
    old = fleet.add_client("at-once", cluster="k1")
    assert_client(fleet, "at-once", old, True)
    new = rotate(fleet, "at-once", "0")
    assert_client(fleet, "at-once", old, False)
    assert_client(fleet, "at-once", new, True)


def test_rotating_in_an_overlap_drops_the_oldest_key(fleet):
    first = fleet.add_client("twice", cluster="k1")
    second = rotate(fleet, "twice", "1h")
    third = rotate(fleet, "twice", "1h")
    assert_client(fleet, "twice", first, False)
    assert_client(fleet, "twice", second, True)
    assert_client(fleet, "twice", third, True)


def test_a_client_rotates_its_own_key_and_nobody_elses(fleet):
    old = fleet.add_client("self", cluster="k1")
    fleet.add_client("other", cluster="k1")
    response = fleet.post("/api/v1/clients/other/rotate-key", old, {})
    assert response.status_code in (401, 403), response.text
    response = fleet.post("/api/v1/clients/self/rotate-key", old, {"grace_seconds": 0})
    assert response.status_code == 200, response.text
    new = response.json()["new_api_key"]
    assert_client(fleet, "self", old, False)
    assert_client(fleet, "self", new, True)


def test_a_revoked_key_is_refused_on_the_very_next_request(fleet):
    for turn in range(10):
        name = f"revoked-{turn}"
        key = fleet.add_client(name, cluster="k1")
        new = rotate(fleet, name, "1h")
        assert_client(fleet, name, key, True)
        assert fleet.ctl_json("client", "revoke", name)
        assert fleet.post_client(name, new, {}).status_code == 401
        assert fleet.submit_one(key, client=name) == "UNAUTHENTICATED"


# --- headends' tokens ---

def test_tokens_from_before_are_refused_and_new_ones_are_not(fleet):
    old = fleet.add_headend("tokens", cluster="k1")
    assert_headend(fleet, "tokens", old, True)  # remembered from here on
    fleet.ctl_ok("headend", "revoke-tokens", "tokens")
    assert_headend(fleet, "tokens", old, False)
    new = fleet.headend_token("tokens")
    assert_headend(fleet, "tokens", new, True)
    assert_headend(fleet, "tokens", old, False)


def test_a_revoked_headend_is_refused(fleet):
    token = fleet.add_headend("revoked-headend", cluster="k1")
    assert_headend(fleet, "revoked-headend", token, True)
    fleet.ctl_ok("headend", "revoke", "revoked-headend")
    assert_headend(fleet, "revoked-headend", token, False)


def test_a_revoked_clusters_headends_are_refused_and_its_clients_are_not(fleet):
    fleet.add_cluster("k-revoked", region="eu", datacenter="d1")
    token = fleet.add_headend("of-revoked", cluster="k-revoked")
    key = fleet.add_client("client-of-revoked", cluster="k-revoked")
    assert_headend(fleet, "of-revoked", token, True)
    fleet.ctl_ok("cluster", "revoke", "k-revoked")
    assert_headend(fleet, "of-revoked", token, False)
    assert_client(fleet, "client-of-revoked", key, True)


# --- labels ---

def test_a_renamed_client_is_seen_without_a_new_report(fleet):
    key = fleet.add_client("renamed", cluster="k1", name="old name", type="native")
    assert fleet.submit_one(key, client="renamed") == "OK"
    scrape = fleet.wait_value(BYTES, 1, client_id="renamed", name="old name", type="native")
    heard = scrape.value(CHECK_IN, client_id="renamed")
    fleet.ctl_ok("client", "update", "renamed", "--name", "new name")
    scrape = fleet.wait_value(BYTES, 1, client_id="renamed", name="new name", type="native")
    assert len(scrape.series(BYTES, client_id="renamed")) == 1
    assert scrape.value(CHECK_IN, client_id="renamed", name="new name") == heard
    fleet.ctl_ok("client", "update", "renamed", "--type", "docker")
    scrape = fleet.wait_value(BYTES, 1, client_id="renamed", name="new name", type="docker")
    assert scrape.value(CHECK_IN, client_id="renamed") == heard
    fleet.exporter.stop()
    fleet.exporter.start()
    fleet.wait_ready()
    scrape = fleet.wait_value(BYTES, 1, client_id="renamed", name="new name", type="docker")
    assert scrape.value(CHECK_IN, client_id="renamed") == heard
    fleet.ingestd.stop()
    fleet.ingestd.start()
    fleet.wait_ready()
    scrape = fleet.wait_value(BYTES, 1, client_id="renamed", name="new name", type="docker")
    assert scrape.value(CHECK_IN, client_id="renamed") == heard


def test_a_moved_headend_and_a_moved_cluster_are_seen(fleet):
    token = fleet.add_headend("moved", cluster="k1")
    assert_headend(fleet, "moved", token, True)
    fleet.wait_value(CPU, 1, headend_id="moved", region="eu", datacenter="d1")
    fleet.ctl_ok("headend", "update", "moved", "--cluster", "k2")
    scrape = fleet.wait_value(CPU, 1, headend_id="moved", region="us", datacenter="d2")
    assert len(scrape.series(CPU, headend_id="moved")) == 1
    fleet.ctl_ok("cluster", "update", "k2", "--region", "asia")
    scrape = fleet.wait_value(CPU, 1, headend_id="moved", region="asia", datacenter="d2")
    assert len(scrape.series(CPU, headend_id="moved")) == 1


def test_many_renamed_at_once_are_all_seen(fleet):
    names = [f"many-{i}" for i in range(20)]
    batch = fleet.pb.ingest.Batch(agent_id="many", boot_id=1, number=1)
    for name in names:
        batch.clients.add(client_id=name, time_unix_ms=[int(time.time() * 1000)], bytes_sent=[3])
    request = fleet.pb.ingest.SubmitRequest(batch=batch.SerializeToString(),
                                            credentials=[fleet.add_client(name, cluster="k2") for name in names])
    with fleet.rpc() as rpc:
        assert rpc.submit(request).stored_series == len(names)
    for name in names:
        fleet.ctl_ok("client", "update", name, "--name", "all the same")
    wait_until(lambda: len(fleet.scrape().series(BYTES, name="all the same")) == len(names), "all have the new name")


def test_a_deleted_client_is_gone_and_may_begin_anew(fleet):
    key = fleet.add_client("deleted", cluster="k1")
    assert fleet.post_client("deleted", key, {"metrics": {"bytes_sent": 5, "packets_sent": 6}}).status_code == 200
    fleet.wait_value(BYTES, 5, client_id="deleted")
    fleet.ctl_ok("client", "delete", "deleted")
    assert_client(fleet, "deleted", key, False)
    wait_until(lambda: not fleet.scrape().series(BYTES, client_id="deleted"), "it has left the exposition")
    again = fleet.add_client("deleted", cluster="k1")
    assert last(fleet, "clients", "deleted", again).status_code == 404
    assert fleet.post_client("deleted", again, {"metrics": {"bytes_sent": 1}}).status_code == 200
    fleet.wait_value(BYTES, 1, client_id="deleted")
    assert fleet.scrape().value("tobogganing_client_packets_sent", client_id="deleted") is None
    assert_client(fleet, "deleted", key, False)
