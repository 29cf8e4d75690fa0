"""A real Prometheus scrapes the gateway with the guide's own configuration and answers the guide's dashboard and
alert expressions with what was submitted."""
import json
import subprocess
import time
from pathlib import Path

import pytest

from harness import ROOT, wait_until
from prometheus import Prometheus

SEED = Path(__file__).parent / "seed"
PANELS = {panel["title"]: panel["targets"][0]["expr"]
          for panel in json.loads((SEED / "dashboard.json").read_text())["dashboard"]["panels"]}


def alert_expressions():
    name, found = None, {}
    for line in (SEED / "alerts.yml").read_text().splitlines():
        line = line.strip()
        if line.startswith("- alert: "):
            name = line.removeprefix("- alert: ")
        elif line.startswith("expr: "):
            found[name] = line.removeprefix("expr: ")
    return found


ALERTS = alert_expressions()
TYPES = {"native": 3, "docker": 2, "mobile": 1}


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="us-east", datacenter="iad1")
    cluster.keys = {f"{kind}-{i}": cluster.add_client(f"{kind}-{i}", type=kind, cluster="c1", name=f"{kind} {i}")
                    for kind, count in TYPES.items() for i in range(count)}
    cluster.tokens = {name: cluster.add_headend(name, cluster="c1") for name in ("hot", "cool")}
    return cluster


@pytest.fixture(scope="module")
def prometheus(fleet, tmp_path_factory):
    config = (SEED / "prometheus.yml").read_text()
    for theirs, ours in (("YOUR_METRICS_TOKEN", fleet.metrics_token),
                         ("manager.example.com:8000", f"127.0.0.1:{fleet.ports['gateway']}")):
        assert theirs in config
        config = config.replace(theirs, ours)
    config += "rule_files: [alerts.yml]\nglobal: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, config, {"alerts.yml": (SEED / "alerts.yml").read_text()}) as running:
        yield running


def submit_all(fleet, step):
    """Reports number `step` of the whole fleet: every value follows from its client and the step."""
    for i, (name, key) in enumerate(fleet.keys.items()):
        metrics = {"bytes_sent": 1000 * (i + 1) * step, "bytes_received": 500 * (i + 1) * step}
        assert fleet.post_client(name, key, {"metrics": metrics}).ok
    for name, cpu in (("hot", 91.5), ("cool", 12.25)):
        assert fleet.post_headend(name, fleet.tokens[name], {"metrics": {"cpu_usage": cpu}}).ok


@pytest.fixture(scope="module")
def history(fleet, prometheus):
    """Reports until Prometheus has seen some steps of them; returns the number of steps."""
    step = 0
    end = time.monotonic() + 90
    while True:
        step += 1
        submit_all(fleet, step)
        seen = prometheus.samples("tobogganing_client_bytes_sent[5m]", time.time())
        if len(seen) == len(fleet.keys) and all(len({v for _, v in s}) >= 6 for s in seen.values()):
            break
        assert time.monotonic() < end, f"Prometheus has seen only {seen}"
    # All it needs is a scrape after the last report.
    wait_until(lambda: max(v for _, v in prometheus.query("tobogganing_client_bytes_sent")) == 1000 * len(fleet.keys) * step)
    return step


def test_the_target_is_up(prometheus, history):
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    assert [(t["labels"]["job"], t["health"], t["lastError"]) for t in targets] == [("tobogganing-manager", "up", "")]


def test_every_scraped_value_is_one_that_was_submitted_in_order(fleet, prometheus, history):
    for family, unit in (("tobogganing_client_bytes_sent", 1000), ("tobogganing_client_bytes_received", 500)):
        seen = prometheus.samples(family + "[5m]", time.time())
        assert len(seen) == len(fleet.keys)
        for labels, samples in seen.items():
            i = list(fleet.keys).index(dict(labels)["client_id"])
            values = [value for _, value in samples]
            assert values == sorted(values)
            assert set(values) <= {unit * (i + 1) * step for step in range(1, history + 1)}
            assert values[-1] == unit * (i + 1) * history


def test_active_clients_by_type(fleet, prometheus, history):
    counted = {labels["type"]: value for labels, value in prometheus.query(PANELS["Active Clients by Type"])}
    assert counted == TYPES
    # Half an hour later nobody would be active any more.
    assert prometheus.query(PANELS["Active Clients by Type"], at=time.time() + 1800) == []


def rate(samples, start, end):
    """rate() of Prometheus for growing samples: the increase, extrapolated to the edges of the range when the samples
    come close to them, by the second (promql/functions.go, extrapolatedRate)."""
    samples = [(t, v) for t, v in samples if start < t <= end]
    (first_time, first), (last_time, last) = samples[0], samples[-1]
    interval = last_time - first_time
    average = interval / (len(samples) - 1)
    to_start, to_end = first_time - start, end - last_time
    if last > first and first >= 0:
        to_start = min(to_start, interval * (first / (last - first)))  # a counter was never below zero
    extended = interval
    extended += to_start if to_start < average * 1.1 else average / 2
    extended += to_end if to_end < average * 1.1 else average / 2
    return (last - first) * (extended / interval) / (end - start)


def test_total_bandwidth(prometheus, history):
    at = round(time.time(), 3)
    expected = sum(rate(samples, at - 300, at) for family in ("sent", "received")
                   for samples in prometheus.samples(f"tobogganing_client_bytes_{family}[5m]", at).values())
    (labels, value), = prometheus.query(PANELS["Total Bandwidth Usage"], at)
    assert labels == {} and value > 0
    assert value == pytest.approx(expected, rel=1e-6)


def test_headend_cpu_usage(prometheus, history):
    found = {labels["headend_id"]: (value, labels["region"], labels["datacenter"], labels["name"])
             for labels, value in prometheus.query(PANELS["Headend CPU Usage"])}
    assert found == {"hot": (91.5, "us-east", "iad1", "hot"), "cool": (12.25, "us-east", "iad1", "cool")}


def test_headend_high_cpu(prometheus, history):
    (labels, value), = prometheus.query(ALERTS["HeadendHighCPU"])
    assert labels["headend_id"] == "hot" and value == 91.5


@pytest.mark.parametrize("alert, family, id_label, seconds", [
    ("ClientOffline", "tobogganing_client_last_check_in_timestamp", "client_id", 900),
    ("HeadendDown", "tobogganing_headend_last_check_in_timestamp", "headend_id", 300),
])
def test_alerts_on_silence_are_quiet_now_and_true_later(fleet, prometheus, history, alert, family, id_label, seconds):
    now = round(time.time(), 3)
    assert prometheus.query(ALERTS[alert], now) == []
    later = now + seconds + 60
    last = {labels[id_label]: value for labels, value in prometheus.query(family, now)}
    ids = fleet.keys if id_label == "client_id" else fleet.tokens
    assert last.keys() == ids.keys()
    found = {labels[id_label]: value for labels, value in prometheus.query(ALERTS[alert], later)}
    assert found == pytest.approx({name: later - at for name, at in last.items()}, abs=0.002)


def test_prometheus_evaluates_the_alert_rules(prometheus, history):
    def pending():
        groups = prometheus.get("/api/v1/rules")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert rules.keys() == ALERTS.keys()
        if any(rule["health"] == "unknown" for rule in rules.values()):
            return None
        assert all(rule["health"] == "ok" for rule in rules.values()), rules
        alerts = rules["HeadendHighCPU"]["alerts"]
        return [(alert["labels"]["headend_id"], float(alert["value"])) for alert in alerts] == [("hot", 91.5)]
    wait_until(pending, "HeadendHighCPU is pending for the hot headend")


def test_our_own_rules_and_configuration_are_right():
    folder = ROOT / "deploy" / "prometheus"
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_our_alerts_are_the_guides_with_labels_that_exist():
    ours = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text().split("groups:", 1)[1]
    guide = (SEED / "alerts.yml").read_text().split("groups:", 1)[1]
    assert ours == guide.replace("$labels.client_name", "$labels.name").replace("$labels.headend_name", "$labels.name")


def test_our_configuration_scrapes(fleet, tmp_path, history):
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    (tmp_path / "token").write_text(fleet.metrics_token)
    for theirs, ours in (("127.0.0.1:8000", f"127.0.0.1:{fleet.ports['gateway']}"), ("15s", "1s"),
                         ("../../var/metrics-token", str(tmp_path / "token"))):
        assert theirs in text
        text = text.replace(theirs, ours)
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    with Prometheus(tmp_path, text, {"alerts.yml": rules}) as running:
        wait_until(lambda: running.query('up{job="tobogganing-manager"} == 1'), "the target is up")
        wait_until(lambda: running.query("tobogganing_headend_cpu_usage_percent"), "a value has arrived")
