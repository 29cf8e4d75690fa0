"""Every daemon is killed in turn while reports flow: service resumes without hands, and what was acknowledged is
still there."""
import json
import subprocess
import time

import pytest
import requests

from harness import DEADLINE, Daemon, binary, clean_environment, free_port, wait_until
from torture.writers import Worker

CLIENTS = [f"c{i}" for i in range(6)]
AGENT_CLIENTS = [f"a{i}" for i in range(3)]


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="eu", datacenter="dc")
    cluster.keys = {name: cluster.add_client(name, cluster="c1") for name in CLIENTS + AGENT_CLIENTS}
    cluster.token = cluster.add_headend("h1", cluster="c1")
    for name, key in cluster.keys.items():
        assert cluster.post_client(name, key, {"metrics": {"bytes_sent": 0}}).ok
    assert cluster.post_headend("h1", cluster.token, {"metrics": {"cpu_usage": 50}}).ok
    cluster.wait_value("tobogganing_headend_cpu_usage_percent", 50, headend_id="h1")
    wait_until(lambda: len(cluster.scrape().series("tobogganing_client_bytes_sent")) == len(cluster.keys), "all are shown")
    return cluster


class HttpTraffic(Worker):
    """Growing counters of CLIENTS by HTTP; remembers what was acknowledged."""

    def __init__(self, fleet):
        super().__init__("http")
        self.fleet, self.value, self.acked, self.statuses = fleet, 0, {}, {}

    def step(self):
        self.value += 1
        name = CLIENTS[self.value % len(CLIENTS)]
        try:
            # A connection each, so that every kill of the gateway is seen as a client would see it.
            with requests.Session() as session:
                response = self.fleet.post_client(name, self.fleet.keys[name], {"metrics": {"bytes_sent": self.value}},
                                                  session=session)
            status = response.status_code
            if status == 503:
                assert int(response.headers["Retry-After"]) >= 1
        except requests.RequestException:
            status = "no connection"
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert status in (200, 502, 503, 504, "no connection"), f"{status} for a good report"
        if status == 200:
            self.acked[name] = self.value


class ScrapeWatch(Worker):
    """Scrapes all the time: an answer shows either the whole fleet or none of it."""

    def __init__(self, fleet):
        super().__init__("scrapes")
        self.fleet, self.full, self.down = fleet, 0, 0

    def step(self):
        try:
            response = self.fleet.get_metrics()
            status, text = response.status_code, response.text
        except requests.RequestException:
            status, text = None, ""
        if status == 200:
            shown = text.count("\ntobogganing_client_bytes_sent{")
            assert shown == len(self.fleet.keys), f"a scrape shows {shown} of {len(self.fleet.keys)} clients"
            assert text.count("\ntobogganing_headend_cpu_usage_percent{") == 1
            self.full += 1
        else:
            assert status in (None, 502, 503, 504), status
            self.down += 1


class AgentTraffic(Worker):
    """Growing counters of AGENT_CLIENTS through one running agent."""

    def __init__(self, fleet):
        super().__init__("agent")
        self.fleet, self.value, self.last = fleet, 0, {}

    def start(self):
        self.agent = subprocess.Popen(
            [binary("tobogganing-agent"), "client", "--from-stdin", "--batch-interval", "200ms", "--call-timeout", "2s",
             "--deadline", f"{DEADLINE:g}s".replace(".0", "")], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=clean_environment(INGEST_URL=self.fleet.ingest_url))
        return super().start()

    def step(self):
        self.value += 1
        name = AGENT_CLIENTS[self.value % len(AGENT_CLIENTS)]
        self.agent.stdin.write(json.dumps({"client_id": name, "api_key": self.fleet.keys[name],
                                           "metrics": {"bytes_sent": self.value}}) + "\n")
        self.agent.stdin.flush()
        self.last[name] = self.value

    def stop(self):
        super().stop()
        _, log = self.agent.communicate(timeout=2 * DEADLINE)
        assert self.agent.returncode == 0, f"the agent could not deliver everything:\n{log[-3000:]}"


def check_flow(fleet, traffic):
    """New reports are acknowledged and shown."""
    start = traffic.value
    wait_until(lambda: len(traffic.acked) == len(CLIENTS) and min(traffic.acked.values()) > start, "reports are acknowledged")

    def shown():
        response = fleet.get_metrics()
        if response.status_code != 200:
            return False
        scrape = fleet.scrape()
        return all((scrape.value("tobogganing_client_bytes_sent", client_id=name) or 0) > start for name in CLIENTS)
    wait_until(shown, "reports are shown")


@pytest.mark.parametrize("victim", ["gateway", "exporter", "ingestd"])
def test_service_resumes_and_nothing_acknowledged_is_lost(fleet, victim):
    daemon = getattr(fleet, victim)
    with HttpTraffic(fleet) as traffic, AgentTraffic(fleet) as agent, ScrapeWatch(fleet) as watch:
        check_flow(fleet, traffic)
        for _ in range(2):
            acked = dict(traffic.acked)
            daemon.kill()
            daemon.start()
            check_flow(fleet, traffic)
            scrape = fleet.scrape()
            for name, value in acked.items():
                assert scrape.value("tobogganing_client_bytes_sent", client_id=name) >= value
        assert watch.full > 0
    # At rest every last acknowledged value is exactly what is shown, and the agent delivered all it took.
    for name, value in {**traffic.acked, **agent.last}.items():
        seen = wait_until(lambda n=name, v=value: (s := fleet.scrape().value("tobogganing_client_bytes_sent", client_id=n)) and
                          s >= v and s, f"{name} shows {value}")
        # A report whose answer was lost with its connection may have been stored all the same: it is newer, never older.
        assert seen >= value and (name in CLIENTS or seen == value)


def test_an_acknowledged_value_survives_a_kill_at_that_moment(fleet):
    name = CLIENTS[0]
    for value in range(10**6, 10**6 + 5):
        assert fleet.post_client(name, fleet.keys[name], {"metrics": {"bytes_sent": value}}).status_code == 200
        fleet.ingestd.kill()
        fleet.ingestd.start()
        fleet.wait_ready()
        fleet.wait_value("tobogganing_client_bytes_sent", value, client_id=name)


def test_while_ingestd_is_away_reports_are_refused_with_a_time_to_retry(fleet):
    fleet.ingestd.kill()
    try:
        response = fleet.post_client(CLIENTS[1], fleet.keys[CLIENTS[1]], {"metrics": {"bytes_sent": 1}})
        assert response.status_code in (503, 504), response.status_code
        assert response.json()["error"]
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) >= 1
        wait_until(lambda: fleet.get_status(fleet.manager_url + "/readyz") == 503, "the gateway says it is not ready")
        assert fleet.get_status(fleet.manager_url + "/healthz") == 200
        # The last state is still shown meanwhile.
        assert len(fleet.scrape().series("tobogganing_client_bytes_sent")) == len(fleet.keys)
    finally:
        fleet.ingestd.start()
    fleet.wait_ready()


def test_everything_restarts_at_once(fleet):
    name = CLIENTS[2]
    assert fleet.post_client(name, fleet.keys[name], {"metrics": {"bytes_sent": 2 * 10**6}}).ok
    for daemon in fleet.daemons:
        daemon.kill()
    for daemon in reversed(fleet.daemons):  # the worst order: who is needed comes last
        daemon.start(wait=False)
    fleet.wait_ready()
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 2 * 10**6, client_id=name)
    assert len(scrape.series("tobogganing_client_bytes_sent")) == len(fleet.keys)
    assert scrape.value("tobogganing_headend_cpu_usage_percent", headend_id="h1") == 50


def test_totals_never_go_backwards(fleet):
    family = "tobogganing_manager_http_requests_total"
    labels = {"method": "POST", "endpoint": "/api/v1/clients/{client_id}/metrics", "status": "200"}

    def total():
        return fleet.scrape().value(family, **labels) or 0
    for daemon in fleet.daemons:
        before = total()
        assert fleet.post_client(CLIENTS[3], fleet.keys[CLIENTS[3]], {}).ok
        wait_until(lambda b=before: total() >= b + 1, "the request is counted")
        before = total()
        daemon.kill()
        daemon.start()
        fleet.wait_ready()
        assert total() >= before, f"after a restart of {daemon.name}"
        assert fleet.post_client(CLIENTS[3], fleet.keys[CLIENTS[3]], {}).ok
        wait_until(lambda b=before: total() >= b + 1, f"requests are counted on after a restart of {daemon.name}")


def test_registrations_and_revocations_survive(fleet):
    key = fleet.add_client("revoked-before")
    fleet.ctl_ok("client", "revoke", "revoked-before")
    token = fleet.headend_token("h1")
    fleet.ingestd.kill()
    fleet.ingestd.start()
    fleet.wait_ready()
    assert fleet.post_client("revoked-before", key, {}).status_code == 401
    assert fleet.post_client(CLIENTS[4], fleet.keys[CLIENTS[4]], {}).status_code == 200
    assert fleet.post_headend("h1", token, {}).status_code == 200  # the issuer's key is kept
    assert fleet.post_headend("h1", fleet.token, {}).status_code == 200


def test_a_second_ingestd_on_the_same_state_is_refused(fleet):
    options = ["--listen", f"tcp://127.0.0.1:{free_port()}", "--bus-listen", f"tcp://127.0.0.1:{free_port()}",
               "--state-dir", str(fleet.state_dir)]
    second = Daemon("second", [binary("tobogganing-ingestd"), *options], fleet.ingestd.env, fleet.folder / "second.log")
    second.start(wait=False)
    assert second.process.wait(DEADLINE) in (1, 2)
    assert "event=ready" not in second.log() and "another process" in second.log(), second.log()
    assert fleet.post_client(CLIENTS[5], fleet.keys[CLIENTS[5]], {}).ok


def test_a_clean_stop_says_so(fleet):
    for daemon in reversed(fleet.daemons):
        daemon.stop()
        assert "event=stopped" in daemon.log(), daemon.name
    for daemon in fleet.daemons:
        daemon.start()
    fleet.wait_ready()
    started = time.monotonic()
    fleet.gateway.stop()
    assert time.monotonic() - started < 11  # the drain's limit
    fleet.gateway.start()
