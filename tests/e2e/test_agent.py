"""The agent: sampling real interfaces and the machine, relaying standard input, retrying."""
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import DEADLINE, binary, clean_environment, free_port, wait_until


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="eu", datacenter="dc")
    cluster.keys = {name: cluster.add_client(name, cluster="c1") for name in ("one", "two", "three", "four", "five", "six")}
    cluster.tokens = {name: cluster.add_headend(name, cluster="c1") for name in ("h1", "h2")}
    return cluster


def statistics():
    return {kind: int(Path(f"/sys/class/net/lo/statistics/{kind}").read_text())
            for kind in ("tx_bytes", "rx_bytes", "tx_packets", "rx_packets")}


def test_client_once_reports_the_interfaces_counters(fleet):
    before = statistics()
    done = fleet.agent("client", "--once", "--interface", "lo", "--headless",
                       env={"CLIENT_ID": "one", "API_KEY": fleet.keys["one"]})
    after = statistics()
    assert done.returncode == 0, done.stderr
    scrape = wait_until(lambda: (s := fleet.scrape()).series("tobogganing_client_bytes_sent", client_id="one") and s)
    for family, kind in (("bytes_sent", "tx_bytes"), ("bytes_received", "rx_bytes"), ("packets_sent", "tx_packets"),
                         ("packets_received", "rx_packets")):
        value = scrape.value(f"tobogganing_client_{family}", client_id="one", headless="true")
        assert before[kind] <= value <= after[kind]
    uptime = scrape.value("tobogganing_client_connection_uptime_seconds", client_id="one")
    assert 0 <= uptime <= float(Path("/proc/uptime").read_text().split()[0]) + 1


def test_the_key_can_come_from_a_file(fleet, tmp_path):
    (tmp_path / "key").write_text(fleet.keys["one"] + "\n")
    done = fleet.agent("client", "--once", "--interface", "lo", "--client-id", "one", "--api-key-file", str(tmp_path / "key"))
    assert done.returncode == 0, done.stderr


def test_headend_once_reports_the_machine(fleet):
    done = fleet.agent("headend", "--once", "--name", "edge-1",
                       env={"HEADEND_ID": "h1", "HEADEND_TOKEN": fleet.tokens["h1"]})
    assert done.returncode == 0, done.stderr
    scrape = wait_until(lambda: (s := fleet.scrape()).series("tobogganing_headend_cpu_usage_percent", headend_id="h1") and s)
    labels = {"headend_id": "h1", "name": "edge-1", "region": "eu", "datacenter": "dc"}
    assert 0 <= scrape.value("tobogganing_headend_cpu_usage_percent", **labels) <= 100
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()}
    assert 0 < scrape.value("tobogganing_headend_memory_usage_bytes", **labels) < memory["MemTotal"]
    # The cluster itself has connections open.
    assert scrape.value("tobogganing_headend_active_connections", **labels) >= 2
    for direction in ("in", "out"):
        assert scrape.value(f"tobogganing_headend_bandwidth_{direction}_bytes", **labels) >= 0


@pytest.mark.parametrize("env, part", [
    ({"CLIENT_ID": "one", "API_KEY": "tobk_wrong"}, "UNAUTHENTICATED"),
    ({"CLIENT_ID": "nobody", "API_KEY": "tobk_wrong"}, "UNAUTHENTICATED"),
])
def test_a_wrong_key_fails_and_says_so(fleet, env, part):
    done = fleet.agent("client", "--once", "--interface", "lo", env=env)
    assert done.returncode == 1 and part in done.stderr, done.stderr
    assert "tobk_" not in done.stderr


def test_an_interface_that_does_not_exist_fails_and_is_named(fleet):
    done = fleet.agent("client", "--once", "--interface", "nosuch0", env={"CLIENT_ID": "one", "API_KEY": fleet.keys["one"]})
    assert done.returncode == 1 and "nosuch0" in done.stderr, done.stderr


def test_a_server_that_is_away_fails_within_the_deadline(fleet):
    done = fleet.agent("client", "--once", "--interface", "lo", "--server", f"tcp://127.0.0.1:{free_port()}",
                       "--deadline", "1s", env={"CLIENT_ID": "one", "API_KEY": fleet.keys["one"]})
    assert done.returncode == 1 and "event=not_acknowledged" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments, env, part", [
    (["client"], {}, "client-id"),
    (["client", "--client-id", "a b"], {"API_KEY": "x"}, "client-id"),
    (["client", "--client-id", "a"], {}, "API_KEY"),
    (["client", "--client-id", "a", "--api-key-file", "/nonexistent"], {}, "api-key-file"),
    (["headend", "--headend-id", "a"], {}, "HEADEND_TOKEN"),
    (["client", "--client-id", "a", "--server", "http://x"], {"API_KEY": "x"}, "server"),
    (["client", "--client-id", "a", "--sample-interval", "soon"], {"API_KEY": "x"}, "sample-interval"),
    (["client", "--bogus"], {}, "--bogus"),
    (["nothing"], {}, "nothing"),
    ([], {}, "Usage"),
])
def test_a_wrong_setting_is_named(fleet, arguments, env, part):
    environment = {"INGEST_URL": fleet.ingest_url, **env}
    done = fleet.agent(*arguments, env=environment)
    assert done.returncode == 2 and part in done.stderr, done.stderr


def test_standard_input_relays_many_sources(fleet):
    now = time.time()
    lines = [json.dumps({"client_id": name, "api_key": fleet.keys[name], "headless": name == "two", "time": now - 5 + i,
                         "metrics": {"bytes_sent": 100 * i + n, "connection_uptime": i + 0.25}})
             for i in range(5) for n, name in enumerate(("two", "three"))]
    done = fleet.agent("client", "--from-stdin", stdin="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 401, client_id="three", headless="false")
    assert scrape.value("tobogganing_client_bytes_sent", client_id="two", headless="true") == 400
    assert scrape.value("tobogganing_client_connection_uptime_seconds", client_id="two") == 4.25


def test_standard_input_relays_headends(fleet):
    line = json.dumps({"headend_id": "h2", "token": fleet.tokens["h2"], "headend_name": "edge-2", "metrics": {"cpu_usage": 45.2}})
    done = fleet.agent("headend", "--from-stdin", stdin=line)
    assert done.returncode == 0, done.stderr
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 45.2, headend_id="h2", name="edge-2")


def test_a_bad_line_is_named_and_stops_no_other(fleet):
    def good(value):
        return json.dumps({"client_id": "four", "api_key": fleet.keys["four"], "metrics": {"bytes_sent": value}})
    lines = [good(1), "{not json", good(2), '{"client_id": "four", "api_key": "x", "metrics": {"bytes_sent": -1}}',
             '{"metrics": {"bytes_sent": 1}}', good(3)]
    done = fleet.agent("client", "--from-stdin", stdin="\n".join(lines) + "\n")
    assert done.returncode == 1
    bad = [line for line in done.stderr.splitlines() if "event=bad_line" in line]
    assert [next(part for part in line.split() if part.startswith("line=")) for line in bad] == ["line=2", "line=4", "line=5"]
    assert "bytes_sent" in bad[1]
    fleet.wait_value("tobogganing_client_bytes_sent", 3, client_id="four")


def test_a_rejected_source_stops_no_other(fleet):
    lines = [json.dumps({"client_id": "five", "api_key": "tobk_wrong", "metrics": {"bytes_sent": 1}}),
             json.dumps({"client_id": "four", "api_key": fleet.keys["four"], "metrics": {"bytes_sent": 44}})]
    done = fleet.agent("client", "--from-stdin", stdin="\n".join(lines))
    assert done.returncode == 1 and "event=series_rejected" in done.stderr and "five" in done.stderr
    assert "tobk_" not in done.stderr
    fleet.wait_value("tobogganing_client_bytes_sent", 44, client_id="four")


def start_agent(fleet, name, log, *options, server=None):
    with open(log, "wb") as out:
        return subprocess.Popen(
            [binary("tobogganing-agent"), "client", "--interface", "lo", "--sample-interval", "100ms", "--batch-interval",
             "200ms", "--call-timeout", "2s", *options], stderr=out, stdin=subprocess.DEVNULL,
            env=clean_environment(INGEST_URL=server or fleet.ingest_url, CLIENT_ID=name, API_KEY=fleet.keys[name]))


def check_in(fleet, name):
    return fleet.scrape().value("tobogganing_client_bytes_sent", client_id=name) or -1


def test_the_daemon_samples_until_it_is_stopped(fleet, tmp_path):
    agent = start_agent(fleet, "five", tmp_path / "log")
    try:
        first = wait_until(lambda: (v := check_in(fleet, "five")) >= 0 and v, "a first report is shown")
        wait_until(lambda: check_in(fleet, "five") > first, "later reports are shown")  # scraping moves lo's counters
    finally:
        agent.send_signal(signal.SIGTERM)
        status = agent.wait(DEADLINE)
    log = (tmp_path / "log").read_text()
    assert status == 0, log
    assert "event=ready" in log and "event=stopped" in log and "lost=0" in log


def test_the_daemon_outlives_a_server_that_goes_and_comes_back(fleet, tmp_path):
    fleet.ingestd.kill()
    agent = start_agent(fleet, "six", tmp_path / "log")
    try:
        wait_until(lambda: "event=submit_failed" in (tmp_path / "log").read_text(), "the agent misses its server")
        fleet.ingestd.start()
        fleet.wait_ready()
        first = wait_until(lambda: (v := check_in(fleet, "six")) >= 0 and v, "reports arrive after the outage")
        wait_until(lambda: "event=submit_recovered" in (tmp_path / "log").read_text(), "the agent says so")
        fleet.ingestd.kill()
        fleet.ingestd.start()
        fleet.wait_ready()
        wait_until(lambda: check_in(fleet, "six") > first, "reports arrive after the second one")
    finally:
        if fleet.ingestd.process is None:
            fleet.ingestd.start()
        agent.send_signal(signal.SIGTERM)
        status = agent.wait(DEADLINE)
    assert status == 0, (tmp_path / "log").read_text()


def test_one_agent_knows_several_servers(fleet):
    servers = f"tcp://127.0.0.1:{free_port()},{fleet.ingest_url}"
    done = fleet.agent("client", "--once", "--interface", "lo", "--server", servers,
                       env={"CLIENT_ID": "one", "API_KEY": fleet.keys["one"]})
    assert done.returncode == 0, done.stderr


def test_secrets_are_not_in_the_process_list(fleet, tmp_path):
    agent = start_agent(fleet, "five", tmp_path / "log")
    try:
        wait_until(lambda: "event=ready" in (tmp_path / "log").read_text(), "the agent runs")
        assert fleet.keys["five"] not in Path(f"/proc/{agent.pid}/cmdline").read_text()
        assert fleet.keys["five"] not in (tmp_path / "log").read_text()
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(DEADLINE)


def test_root_is_where_the_machines_files_are(fleet, tmp_path):
    """As a container sees its host's files, mounted elsewhere."""
    folder = tmp_path / "sys/class/net/wg7/statistics"
    folder.mkdir(parents=True)
    for kind, value in (("tx_bytes", 11), ("rx_bytes", 22), ("tx_packets", 33), ("rx_packets", 44)):
        (folder / kind).write_text(f"{value}\n")
    (folder.parent / "ifindex").write_text("7\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("5000.00 1.0\n")
    done = fleet.agent("client", "--once", "--interface", "wg7", "--root", str(tmp_path),
                       env={"CLIENT_ID": "one", "API_KEY": fleet.keys["one"]})
    assert done.returncode == 0, done.stderr
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 11, client_id="one")
    assert [scrape.value(f"tobogganing_client_{name}", client_id="one") for name in
            ("bytes_received", "packets_sent", "packets_received")] == [22, 33, 44]
