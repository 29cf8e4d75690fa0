"""GET /metrics: every family of the contract, exactly; who may read it; how it is encoded."""
import gzip
import socket
import subprocess
import threading

import pytest
import requests

from harness import DEADLINE, free_port, wait_until

CLIENT_LABELS = ["client_id", "name", "type", "headless"]
HEADEND_LABELS = ["headend_id", "name", "region", "datacenter"]
FAMILIES = {  # name: (type, help, labels)
    "tobogganing_client_bytes_sent": ("gauge", "Bytes sent by client", CLIENT_LABELS),
    "tobogganing_client_bytes_received": ("gauge", "Bytes received by client", CLIENT_LABELS),
    "tobogganing_client_packets_sent": ("gauge", "Packets sent by client", CLIENT_LABELS),
    "tobogganing_client_packets_received": ("gauge", "Packets received by client", CLIENT_LABELS),
    "tobogganing_client_connection_uptime_seconds": ("gauge", "Connection uptime", CLIENT_LABELS),
    "tobogganing_client_last_check_in_timestamp": ("gauge", "Last check-in time", CLIENT_LABELS),
    "tobogganing_headend_active_connections": ("gauge", "Active connections", HEADEND_LABELS),
    "tobogganing_headend_bandwidth_in_bytes": ("gauge", "Incoming bandwidth", HEADEND_LABELS),
    "tobogganing_headend_bandwidth_out_bytes": ("gauge", "Outgoing bandwidth", HEADEND_LABELS),
    "tobogganing_headend_cpu_usage_percent": ("gauge", "CPU usage percentage", HEADEND_LABELS),
    "tobogganing_headend_memory_usage_bytes": ("gauge", "Memory usage", HEADEND_LABELS),
    "tobogganing_headend_last_check_in_timestamp": ("gauge", "Last check-in time", HEADEND_LABELS),
    "tobogganing_manager_clusters_total": ("gauge", "Total registered clusters", []),
    "tobogganing_manager_clients_total": ("gauge", "Total registered clients", []),
    "tobogganing_manager_http_requests_total": ("counter", "HTTP requests processed", ["method", "endpoint", "status"]),
    "tobogganing_manager_auth_attempts_total": ("counter", "Authentication attempts", ["type", "result"]),
    "tobogganing_manager_certificates_issued_total": ("counter", "Certificates issued", ["type"]),
}
# Ours, beside those of the contract.
OWN_FAMILIES = {
    "tobogganing_manager_unknown_metrics_total": ("counter", "Metric names in JSON reports that nobody knows", []),
    "tobogganing_manager_clients_on_previous_key":
        ("gauge", "Clients that were last heard from with the key before their newest", []),
    "tobogganing_manager_certificate_expiry_days":
        ("gauge", "Days until the first certificate of a type expires", ["type"]),
}


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="eu-central", datacenter="fra1")
    cluster.keys = {"plain": cluster.add_client("plain", type="mobile", cluster="c1")}
    cluster.tokens = {"h1": cluster.add_headend("h1", cluster="c1")}
    metrics = {"bytes_sent": 1, "bytes_received": 2, "packets_sent": 3, "packets_received": 4, "connection_uptime": 5.5}
    assert cluster.post_client("plain", cluster.keys["plain"], {"headless": True, "metrics": metrics}).ok
    metrics = {"active_connections": 1, "bandwidth_in": 2.5, "bandwidth_out": 3, "cpu_usage": 45.2, "memory_usage": 4e9}
    assert cluster.post_headend("h1", cluster.tokens["h1"], {"metrics": metrics}).ok
    cluster.wait_value("tobogganing_headend_memory_usage_bytes", 4e9, headend_id="h1")
    cluster.wait_value("tobogganing_client_bytes_sent", 1, client_id="plain")
    return cluster


def test_every_family_has_its_exact_name_type_help_and_labels(fleet):
    families = FAMILIES | OWN_FAMILIES
    scrape = wait_until(lambda: (s := fleet.scrape()) and families.keys() <= s.label_names.keys() and s,
                        "all families have series")
    for name, (kind, help_text, labels) in families.items():
        assert scrape.type.get(name) == kind, name
        assert scrape.help.get(name) == help_text, name
        assert scrape.label_names.get(name, labels) == labels, name
    assert scrape.type.keys() == families.keys()


def test_the_values_stand_under_the_registered_labels(fleet):
    scrape = fleet.scrape()
    client = {"client_id": "plain", "name": "plain", "type": "mobile", "headless": "true"}
    headend = {"headend_id": "h1", "name": "h1", "region": "eu-central", "datacenter": "fra1"}
    assert scrape.text_value("tobogganing_client_connection_uptime_seconds", **client) == "5.5"
    assert scrape.text_value("tobogganing_client_packets_received", **client) == "4"
    assert scrape.text_value("tobogganing_headend_bandwidth_in_bytes", **headend) == "2.5"
    assert scrape.text_value("tobogganing_headend_cpu_usage_percent", **headend) == "45.2"
    assert scrape.value("tobogganing_headend_memory_usage_bytes", **headend) == 4e9


def test_the_gateway_relays_what_the_exporter_says(fleet):
    through, direct = fleet.scrape(), fleet.scrape(fleet.exporter_url)
    assert through.type == direct.type
    assert through.series("tobogganing_client_bytes_sent") == direct.series("tobogganing_client_bytes_sent")


@pytest.mark.parametrize("url", ["manager_url", "exporter_url"])
def test_the_content_type_is_that_of_the_text_format(fleet, url):
    response = fleet.get_metrics(getattr(fleet, url))
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("url", ["manager_url", "exporter_url"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "Basic eDp4", "Bearer " + "x" * 5000])
def test_without_the_metrics_token_it_is_401(fleet, url, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    response = requests.get(getattr(fleet, url) + "/metrics", headers=headers, timeout=60)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["error"]
    assert "tobogganing_client" not in response.text


def test_other_tokens_of_ours_do_not_open_it(fleet):
    for token in (fleet.admin_token, fleet.cluster_token, fleet.keys["plain"], fleet.tokens["h1"]):
        assert fleet.get_metrics(token=token).status_code == 401


@pytest.mark.parametrize("url", ["manager_url", "exporter_url"])
@pytest.mark.parametrize("accept, compressed", [("gzip", True), ("gzip, deflate, br", True), ("*", None), ("identity", False),
                                                ("gzip;q=0", False), ("gzip;q=0.5", True), ("br", False), (None, False)])
def test_it_is_compressed_when_the_reader_accepts_it(fleet, url, accept, compressed):
    # None removes the library's own header.
    response = fleet.get_metrics(getattr(fleet, url), headers={"Accept-Encoding": accept}, stream=True)
    assert response.status_code == 200
    encoding = response.headers.get("Content-Encoding")
    if compressed is not None:
        assert (encoding == "gzip") == compressed
    raw = response.raw.read(decode_content=False)
    text = (gzip.decompress(raw) if encoding == "gzip" else raw).decode()
    assert 'tobogganing_client_bytes_sent{client_id="plain"' in text


@pytest.mark.parametrize("url", ["manager_url", "exporter_url"])
def test_head_is_get_without_a_body(fleet, url):
    response = requests.head(getattr(fleet, url) + "/metrics", timeout=60,
                             headers={"Authorization": f"Bearer {fleet.metrics_token}"})
    assert response.status_code == 200 and response.content == b""


def test_promtool_finds_nothing_wrong_with_the_text(fleet):
    done = subprocess.run(["promtool", "check", "metrics"], input=fleet.scrape().text, capture_output=True, text=True,
                          timeout=60, check=False)
    # 3 is for its opinions on names (a gauge that ends in _total, and so on): the contract's names are what they
    # are. Anything else would be an error of syntax.
    assert done.returncode in (0, 3), done.stderr
    opinions = done.stderr.strip().splitlines()
    allowed = ("non-counter metrics should not have \"_total\" suffix", "non-counter", "use base unit", "metric names should not")
    assert all(any(part in line for part in allowed) for line in opinions), opinions


def test_names_are_escaped(fleet):
    name = 'quote " backslash \\ brace } comma , equals = é 東'
    key = fleet.add_client("odd", name=name)
    assert fleet.post_client("odd", key, {"metrics": {"bytes_sent": 9}}).ok
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 9, client_id="odd", name=name)
    assert 'name="quote \\" backslash \\\\ brace } comma , equals = é 東"' in scrape.text
    assert fleet.post_headend("h1", fleet.tokens["h1"], {"headend_name": name, "metrics": {"cpu_usage": 7}}).ok
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 7, headend_id="h1", name=name)


def test_registered_clients_and_clusters_are_counted(fleet):
    def check():
        registered = fleet.ctl_json("status")
        fleet.wait_value("tobogganing_manager_clients_total", registered["clients"])
        fleet.wait_value("tobogganing_manager_clusters_total", registered["clusters"])
        return registered["clients"], registered["clusters"]
    clients, clusters = check()
    fleet.add_cluster("c-count")
    fleet.add_client("count-1")
    fleet.add_client("count-2")
    assert check() == (clients + 2, clusters + 1)
    fleet.ctl_ok("client", "revoke", "count-1")
    assert check() == (clients + 1, clusters + 1)


def test_requests_are_counted_by_method_endpoint_and_status(fleet):
    endpoint = "/api/v1/clients/{client_id}/metrics"

    def count(status):
        return fleet.scrape().total("tobogganing_manager_http_requests_total", method="POST", endpoint=endpoint, status=status)
    before = count("200"), count("401")
    for _ in range(3):
        assert fleet.post_client("plain", fleet.keys["plain"], {}).status_code == 200
    assert fleet.post_client("plain", "tobk_wrong", {}).status_code == 401
    wait_until(lambda: (count("200"), count("401")) == (before[0] + 3, before[1] + 1), "the requests are counted")


def test_attempts_to_authenticate_are_counted(fleet):
    def counts():
        scrape = fleet.scrape()
        return [scrape.total("tobogganing_manager_auth_attempts_total", type=kind, result=result)
                for kind in ("api_key", "jwt") for result in ("success", "failure")]
    before = counts()
    assert fleet.post_client("plain", fleet.keys["plain"], {}).ok
    assert not fleet.post_client("plain", "tobk_wrong", {}).ok
    assert fleet.post_headend("h1", fleet.tokens["h1"], {}).ok
    assert not fleet.post_headend("h1", "a.b.c", {}).ok
    wait_until(lambda: counts() == [n + 1 for n in before], "the attempts are counted")
    failures = fleet.scrape().total("tobogganing_manager_auth_attempts_total", type="metrics", result="failure")
    assert fleet.get_metrics(token="wrong").status_code == 401
    wait_until(lambda: fleet.scrape().total("tobogganing_manager_auth_attempts_total", type="metrics",
                                            result="failure") == failures + 1, "the refused scrape is counted")


def test_scrapes_at_the_same_time_are_all_whole(fleet):
    texts, errors = [], []

    def scrape():
        try:
            texts.append(fleet.scrape().series("tobogganing_client_bytes_sent", client_id="plain"))
        except Exception as error:  # shown below: an assertion in a thread would be lost
            errors.append(error)
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not errors and len(texts) == 8 and all(text == texts[0] for text in texts)


def test_a_reader_that_reads_nothing_holds_up_nobody(fleet):
    lazy = socket.create_connection(("127.0.0.1", fleet.ports["exporter"]), timeout=60)
    with lazy:
        lazy.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fleet.metrics_token}\r\n\r\n".encode() * 50)
        for _ in range(5):
            assert fleet.post_client("plain", fleet.keys["plain"], {}).ok
            fleet.scrape()


def test_before_the_first_snapshot_it_is_503_and_then_the_whole_fleet(make_cluster):
    cluster = make_cluster()
    key = cluster.add_client("early")
    assert cluster.post_client("early", key, {"metrics": {"bytes_sent": 5}}).ok
    cluster.wait_value("tobogganing_client_bytes_sent", 5, client_id="early")
    cluster.exporter.stop()
    response = cluster.get_metrics()
    assert response.status_code in (502, 503) and response.json()["error"]
    cluster.ingestd.stop()
    cluster.exporter.start(wait=False)
    wait_until(lambda: cluster.get_status(cluster.exporter_url + "/healthz") == 200, "the exporter lives")
    for base in (cluster.exporter_url, cluster.manager_url):
        response = cluster.get_metrics(base)
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1, response.text
        assert "tobogganing_client" not in response.text
    assert cluster.get_status(cluster.exporter_url + "/readyz") == 503
    cluster.ingestd.start()
    cluster.wait_ready()
    assert cluster.scrape().value("tobogganing_client_bytes_sent", client_id="early") == 5


def test_metrics_tokens_rotate_without_a_gap(make_cluster, tmp_path):
    cluster = make_cluster(start=False)
    tokens = tmp_path / "tokens"
    tokens.write_text("old\n")
    cluster.exporter.env.pop("METRICS_TOKEN")
    cluster.exporter.env["METRICS_TOKEN_FILE"] = str(tokens)
    cluster.start()
    assert cluster.get_metrics(token="old").status_code == 200
    tokens.write_text("old\nnew\n")
    cluster.exporter.reload()
    wait_until(lambda: cluster.get_metrics(token="new").status_code == 200, "the new token is known")
    assert cluster.get_metrics(token="old").status_code == 200
    tokens.write_text("new\n")
    cluster.exporter.reload()
    wait_until(lambda: cluster.get_metrics(token="old").status_code == 401, "the old token is gone")
    assert cluster.get_metrics(token="new").status_code == 200


def test_a_list_of_metrics_tokens_opens_with_each(make_cluster):
    cluster = make_cluster(start=False)
    cluster.exporter.env["METRICS_TOKEN"] = "one, two"
    cluster.start()
    assert [cluster.get_metrics(token=token).status_code for token in ("one", "two", "three")] == [200, 200, 401]


def test_silent_sources_are_hidden_after_a_while_and_come_back(make_cluster):
    cluster = make_cluster(exporter_options=["--expire-after", "2s"])
    key = cluster.add_client("quiet")
    assert cluster.post_client("quiet", key, {"metrics": {"bytes_sent": 1, "packets_sent": 2}}).ok
    cluster.wait_value("tobogganing_client_bytes_sent", 1, client_id="quiet")
    wait_until(lambda: not cluster.scrape().series("tobogganing_client_last_check_in_timestamp"), "it is hidden")
    assert cluster.post_client("quiet", key, {"metrics": {"bytes_sent": 3}}).ok
    scrape = cluster.wait_value("tobogganing_client_bytes_sent", 3, client_id="quiet")
    assert scrape.value("tobogganing_client_packets_sent", client_id="quiet") == 2


def test_a_port_that_is_taken_is_said(make_cluster):
    cluster = make_cluster(start=False)
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        cluster.exporter.argv[cluster.exporter.argv.index("--listen") + 1] = f"127.0.0.1:{port}"
        cluster.exporter.start(wait=False)
        assert cluster.exporter.process.wait(DEADLINE) in (1, 2)
        assert str(port) in cluster.exporter.log()
        cluster.exporter.process = None
