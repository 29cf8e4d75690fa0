"""The documented JSON endpoints: what is accepted, and every refusal."""
import concurrent.futures
import gzip
import http.client
import json
import socket
import time

import pytest
import requests

CLIENT_BODY = {
    "headless": False,
    "metrics": {"bytes_sent": 1048576, "bytes_received": 2097152, "packets_sent": 1000, "packets_received": 1500,
                "connection_uptime": 3600},
}
HEADEND_BODY = {
    "headend_name": "headend-us-east-1",
    "metrics": {"active_connections": 150, "bandwidth_in": 10485760, "bandwidth_out": 5242880, "cpu_usage": 45.2,
                "memory_usage": 2147483648},
}
MAX = 2**63 - 1


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="us-east", datacenter="dc1")
    cluster.keys = {name: cluster.add_client(name, name=f"Name of {name}", type="docker", cluster="c1")
                    for name in ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")}
    cluster.tokens = {name: cluster.add_headend(name, cluster="c1") for name in ("h1", "h2", "h3", "h4")}
    return cluster


def send_client(fleet, name, body, **options):
    return fleet.post_client(name, fleet.keys[name], body, **options)


def send_headend(fleet, name, body, **options):
    return fleet.post_headend(name, fleet.tokens[name], body, **options)


def assert_error(response, status, *parts):
    assert response.status_code == status, f"{response.status_code} {response.text}"
    assert response.headers["Content-Type"].startswith("application/json")
    body = response.json()
    assert list(body) == ["error"] and body["error"], body
    for part in parts:
        assert part in body["error"], body["error"]


def assert_received(response):
    assert response.status_code == 200, f"{response.status_code} {response.text}"
    assert response.json() == {"status": "metrics_received"}
    assert response.headers["Content-Type"].startswith("application/json")


# --- what is accepted ---

def test_the_documented_client_body_is_received_and_shown(fleet):
    before = time.time()
    assert_received(send_client(fleet, "alice", CLIENT_BODY))
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 1048576, client_id="alice")
    labels = {"client_id": "alice", "name": "Name of alice", "type": "docker", "headless": "false"}
    assert scrape.series("tobogganing_client_bytes_sent", client_id="alice") == [(labels, "1048576")]
    assert scrape.value("tobogganing_client_bytes_received", **labels) == 2097152
    assert scrape.value("tobogganing_client_packets_sent", **labels) == 1000
    assert scrape.value("tobogganing_client_packets_received", **labels) == 1500
    assert scrape.value("tobogganing_client_connection_uptime_seconds", **labels) == 3600
    assert before - 1 <= scrape.value("tobogganing_client_last_check_in_timestamp", **labels) <= time.time() + 1


def test_the_documented_headend_body_is_received_and_shown(fleet):
    assert_received(send_headend(fleet, "h1", HEADEND_BODY))
    scrape = fleet.wait_value("tobogganing_headend_cpu_usage_percent", 45.2, headend_id="h1")
    labels = {"headend_id": "h1", "name": "headend-us-east-1", "region": "us-east", "datacenter": "dc1"}
    assert scrape.series("tobogganing_headend_cpu_usage_percent", headend_id="h1") == [(labels, "45.2")]
    assert scrape.value("tobogganing_headend_active_connections", **labels) == 150
    assert scrape.value("tobogganing_headend_bandwidth_in_bytes", **labels) == 10485760
    assert scrape.value("tobogganing_headend_bandwidth_out_bytes", **labels) == 5242880
    assert scrape.value("tobogganing_headend_memory_usage_bytes", **labels) == 2147483648


@pytest.mark.parametrize("body", [{}, {"metrics": {}}, {"headless": False}, {"metrics": {}, "extra": [1, {"a": None}]}])
def test_a_report_without_metrics_is_a_check_in(fleet, body):
    key = fleet.keys["bob"]
    assert_received(fleet.post_client("bob", key, {"metrics": {"bytes_sent": 7}}))
    fleet.wait_value("tobogganing_client_bytes_sent", 7, client_id="bob")
    before = fleet.scrape().value("tobogganing_client_last_check_in_timestamp", client_id="bob")
    # The exposition may show whole seconds: check in until it has moved.
    end = time.monotonic() + 20
    while fleet.scrape().value("tobogganing_client_last_check_in_timestamp", client_id="bob") <= before:
        assert time.monotonic() < end, "check-ins do not move last_check_in"
        assert_received(fleet.post_client("bob", key, body))
    assert fleet.scrape().value("tobogganing_client_bytes_sent", client_id="bob") == 7


def test_metrics_that_are_missing_leave_their_series_as_they_were(fleet):
    assert_received(send_client(fleet, "carol", {"metrics": {"bytes_sent": 10, "packets_sent": 20}}))
    assert_received(send_client(fleet, "carol", {"metrics": {"bytes_sent": 11}}))
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 11, client_id="carol")
    assert scrape.value("tobogganing_client_packets_sent", client_id="carol") == 20
    assert scrape.value("tobogganing_client_packets_received", client_id="carol") is None  # never reported


def test_a_headend_keeps_what_a_report_leaves_out(fleet):
    assert_received(send_headend(fleet, "h2", {"headend_name": "two", "metrics": {"cpu_usage": 1.5, "memory_usage": 9}}))
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 1.5, headend_id="h2", name="two")
    assert_received(send_headend(fleet, "h2", {"metrics": {"cpu_usage": 2.5}}))
    scrape = fleet.wait_value("tobogganing_headend_cpu_usage_percent", 2.5, headend_id="h2")
    assert scrape.value("tobogganing_headend_memory_usage_bytes", headend_id="h2") == 9


def test_headend_name_defaults_to_the_id(fleet):
    assert_received(send_headend(fleet, "h3", {"metrics": {"cpu_usage": 3}}))
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 3, headend_id="h3", name="h3")


def test_decimals_are_normal_numbers(fleet):
    body = {"metrics": {"connection_uptime": 12345.67, "bytes_sent": 1048576.0}}
    assert_received(send_client(fleet, "dave", body))
    assert_received(send_client(fleet, "dave", '{"metrics": {"bytes_received": 1e6, "packets_sent": 25E1}}'))
    scrape = fleet.wait_value("tobogganing_client_bytes_received", 1000000, client_id="dave")
    assert scrape.text_value("tobogganing_client_connection_uptime_seconds", client_id="dave") == "12345.67"
    assert scrape.text_value("tobogganing_client_bytes_sent", client_id="dave") == "1048576"
    assert scrape.value("tobogganing_client_packets_sent", client_id="dave") == 250


def test_the_greatest_counter_is_exact(fleet):
    assert_received(send_client(fleet, "erin", {"metrics": {"bytes_sent": MAX, "bytes_received": MAX - 1, "packets_sent": 0}}))
    scrape = fleet.wait_value("tobogganing_client_packets_sent", 0, client_id="erin")
    assert scrape.text_value("tobogganing_client_bytes_sent", client_id="erin") == str(MAX)
    assert scrape.text_value("tobogganing_client_bytes_received", client_id="erin") == str(MAX - 1)


def test_headless_moves_the_series_to_its_label(fleet):
    assert_received(send_client(fleet, "frank", {"headless": True, "metrics": {"bytes_sent": 1}}))
    fleet.wait_value("tobogganing_client_bytes_sent", 1, client_id="frank", headless="true")
    assert_received(send_client(fleet, "frank", {"metrics": {"bytes_sent": 2}}))
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 2, client_id="frank", headless="false")
    assert len(scrape.series("tobogganing_client_bytes_sent", client_id="frank")) == 1


def test_unknown_metrics_are_ignored_and_counted(fleet):
    def unknown():
        return fleet.scrape().value("tobogganing_manager_unknown_metrics_total") or 0
    before = unknown()
    assert_received(send_client(fleet, "grace", {"metrics": {"bytes_sent": 5, "jitter_ms": 1, "mtu": "big"}}))
    fleet.wait_value("tobogganing_client_bytes_sent", 5, client_id="grace")
    fleet.wait_value("tobogganing_manager_unknown_metrics_total", before + 2)


def test_gzip_bodies_are_accepted(fleet):
    body = gzip.compress(json.dumps({"metrics": {"bytes_sent": 4242}}).encode())
    assert_received(send_client(fleet, "heidi", body, headers={"Content-Encoding": "gzip"}))
    fleet.wait_value("tobogganing_client_bytes_sent", 4242, client_id="heidi")


def test_a_charset_parameter_is_fine(fleet):
    response = send_client(fleet, "heidi", CLIENT_BODY, headers={"Content-Type": "application/json; charset=utf-8"})
    assert_received(response)


def test_a_chunked_body_is_accepted(fleet):
    def chunks():
        yield b'{"metrics": {"bytes_'
        yield b'sent": 31}}'
    response = requests.post(f"{fleet.manager_url}/api/v1/clients/heidi/metrics", data=chunks(), timeout=60,
                             headers={"Authorization": f"Bearer {fleet.keys['heidi']}", "Content-Type": "application/json"})
    assert_received(response)
    fleet.wait_value("tobogganing_client_bytes_sent", 31, client_id="heidi")


def test_reports_that_arrive_together_are_each_answered(fleet):
    def send(i):
        name = ("alice", "bob", "carol")[i % 3]
        key = fleet.keys[name] if i % 5 else "tobk_wrong"
        with requests.Session() as session:
            return i, fleet.post_client(name, key, {"metrics": {"packets_received": i}}, session=session).status_code
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for i, status in pool.map(send, range(240)):
            assert status == (200 if i % 5 else 401)


# --- who may ---

def test_without_a_credential_it_is_401(fleet):
    response = fleet.post_client("alice", None, CLIENT_BODY)
    assert_error(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("authorization", ["Basic YWxpY2U6eA==", "Bearer", "Bearer ", "tobk_x", "Bearer tobk_x y"])
def test_anything_but_a_good_bearer_token_is_401(fleet, authorization):
    response = fleet.post_client("alice", None, CLIENT_BODY, headers={"Authorization": authorization})
    assert_error(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "A", lambda key: key.swapcase(),
                                    lambda key: "x" * 9000])
def test_a_wrong_key_is_401(fleet, change):
    response = fleet.post_client("alice", change(fleet.keys["alice"]), CLIENT_BODY)
    assert response.status_code in (401, 431), response.status_code
    assert response.status_code == 401 or len(change("x")) > 8000


def test_a_clients_key_on_anothers_path_is_401(fleet):
    assert_error(fleet.post_client("bob", fleet.keys["alice"], CLIENT_BODY), 401)


def test_an_unknown_client_is_401(fleet):
    assert_error(fleet.post_client("nobody", fleet.keys["alice"], CLIENT_BODY), 401)


def test_a_headends_token_on_anothers_path_is_403(fleet):
    assert_error(fleet.post_headend("h2", fleet.tokens["h1"], HEADEND_BODY), 403)


def test_a_token_for_a_headend_that_is_not_registered_is_404(fleet, pb):
    with fleet.rpc(bearer=fleet.admin_token) as rpc:
        pb_registry = pb.registry
        try:
            issued = rpc.call("/tobogganing.v1.Registry/IssueHeadendToken",
                              pb_registry.IssueHeadendTokenRequest(headend_id="ghost"),
                              pb_registry.IssueHeadendTokenResponse)
        except Exception as error:  # the issuer itself may refuse: then there is no such token
            assert getattr(error, "code", None) == "NOT_FOUND", error
            response = fleet.post_headend("ghost", fleet.tokens["h1"], HEADEND_BODY)
            assert response.status_code in (403, 404), response.text
            return
    assert_error(fleet.post_headend("ghost", issued.token, HEADEND_BODY), 404)


def test_a_token_that_was_tampered_with_is_401(fleet):
    head, payload, signature = fleet.tokens["h1"].split(".")
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    assert_error(fleet.post_headend("h1", ".".join([head, payload, flipped]), HEADEND_BODY), 401)
    assert_error(fleet.post_headend("h1", f"{head}.{payload}.", HEADEND_BODY), 401)


def test_a_clients_key_does_not_open_a_headends_path_nor_the_reverse(fleet):
    assert_error(fleet.post_headend("h1", fleet.keys["alice"], HEADEND_BODY), 401)
    assert_error(fleet.post_client("alice", fleet.tokens["h1"], CLIENT_BODY), 401)


def test_a_revoked_key_is_refused_on_the_very_next_request(fleet):
    key = fleet.add_client("mallory")
    assert_received(fleet.post_client("mallory", key, CLIENT_BODY))
    fleet.ctl_ok("client", "revoke", "mallory")
    assert_error(fleet.post_client("mallory", key, CLIENT_BODY), 401)


# --- what is refused ---

@pytest.mark.parametrize("body, parts", [
    ("", []),
    ("{", ["line 1"]),
    ('{\n  "metrics": {"bytes_sent": 1,}\n}', ["line 2"]),
    ('{"metrics": {"bytes_sent": NaN}}', ["line 1"]),
    ('{"metrics": {"bytes_sent": Infinity}}', ["line 1"]),
    ('{"metrics": {"bytes_sent": 1}} x', ["line 1"]),
    ('{"metrics": {"bytes_sent": 1, "bytes_sent": 2}}', []),
    (b'{"headless": false, "x": "\xff"}', []),
    ("[]", []),
    ("7", []),
    ('"text"', []),
    ("null", []),
    ('{"metrics": []}', ["metrics"]),
    ('{"metrics": null}', ["metrics"]),
    ('{"metrics": {"bytes_sent": "1"}}', ["bytes_sent"]),
    ('{"metrics": {"bytes_sent": true}}', ["bytes_sent"]),
    ('{"metrics": {"bytes_sent": null}}', ["bytes_sent"]),
    ('{"metrics": {"bytes_sent": {}}}', ["bytes_sent"]),
    ('{"metrics": {"bytes_sent": -1}}', ["bytes_sent", "negative"]),
    ('{"metrics": {"packets_received": 1.5}}', ["packets_received"]),
    ('{"metrics": {"connection_uptime": -0.1}}', ["connection_uptime"]),
    ('{"metrics": {"bytes_sent": 9223372036854775808}}', []),
    ('{"metrics": {"bytes_sent": 99999999999999999999999}}', []),
    ('{"metrics": {"bytes_sent": 1e19}}', ["bytes_sent"]),
    ('{"metrics": {"bytes_sent": 1e999}}', []),
    ('{"headless": "false"}', ["headless"]),
    ('{"headless": 0}', ["headless"]),
    ('{"headless": null}', ["headless"]),
    ("[" * 5000, []),
])
def test_a_bad_client_body_is_400_and_says_where(fleet, body, parts):
    assert_error(send_client(fleet, "alice", body), 400, *parts)


@pytest.mark.parametrize("body, parts", [
    ('{"headend_name": 7}', ["headend_name"]),
    (json.dumps({"headend_name": "n" * 257}), ["headend_name"]),
    (json.dumps({"headend_name": "a\nb"}), ["headend_name"]),
    ('{"metrics": {"cpu_usage": -1}}', ["cpu_usage"]),
    ('{"metrics": {"cpu_usage": "45"}}', ["cpu_usage"]),
    ('{"metrics": {"memory_usage": 1e19}}', ["memory_usage"]),
    ('{"metrics": {"memory_usage": 1e400}}', []),
])
def test_a_bad_headend_body_is_400_and_says_where(fleet, body, parts):
    assert_error(send_headend(fleet, "h1", body), 400, *parts)


def test_more_than_64_metric_names_are_400(fleet):
    names = {f"m{i}": i for i in range(64)}
    assert_received(send_client(fleet, "alice", {"metrics": names}))
    assert_error(send_client(fleet, "alice", {"metrics": {**names, "one_more": 1}}), 400)


@pytest.mark.parametrize("client_id", ["a b", "x%2Fy", "%00", "caf%C3%A9", "a" * 129, "a'--"])
def test_a_path_with_a_bad_id_is_refused(fleet, client_id):
    response = fleet.post(f"/api/v1/clients/{client_id}/metrics", fleet.keys["alice"], CLIENT_BODY)
    assert response.status_code in (400, 401, 404), response.status_code
    assert "error" in response.json()


@pytest.mark.parametrize("path", ["/", "/api/v1/clients/alice/report", "/api/v1/clients//metrics", "/api/v2/clients/alice/metrics",
                                  "/api/v1/clients/alice/metrics/", "/metricsx"])
def test_an_unknown_path_is_404(fleet, path):
    response = fleet.post(path, fleet.keys["alice"], CLIENT_BODY)
    assert_error(response, 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_another_method_is_405_with_allow(fleet, method):
    url = f"{fleet.manager_url}/api/v1/clients/alice/metrics"
    response = requests.request(method, url, timeout=60)
    assert_error(response, 405)
    assert response.headers["Allow"] == "POST, GET, HEAD"


def test_posting_to_metrics_is_405(fleet):
    response = fleet.post("/metrics", None, {})
    assert_error(response, 405)
    assert "GET" in response.headers["Allow"]


def raw_request(fleet, head, body=b""):
    connection = socket.create_connection(("127.0.0.1", fleet.ports["gateway"]), timeout=60)
    with connection:
        connection.sendall(head.encode() + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def test_a_post_without_a_length_is_411(fleet):
    status, body = raw_request(fleet, "POST /api/v1/clients/alice/metrics HTTP/1.1\r\nHost: x\r\n"
                                      f"Authorization: Bearer {fleet.keys['alice']}\r\n"
                                      "Content-Type: application/json\r\n\r\n")
    assert status == 411
    assert "error" in json.loads(body)


def test_a_body_over_the_limit_is_413(fleet):
    # The limit is 64 KiB by default. Nothing is left unread, so the answer is never lost to a reset.
    response = send_client(fleet, "alice", '{"x": "' + "y" * 66000 + '"}')
    assert_error(response, 413)


def test_a_body_that_inflates_over_the_limit_is_413(fleet):
    bomb = gzip.compress(b" " * (8 << 20))
    response = send_client(fleet, "alice", bomb, headers={"Content-Encoding": "gzip"})
    assert_error(response, 413)


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"tail"])
def test_a_broken_gzip_body_is_400(fleet, body):
    assert_error(send_client(fleet, "alice", body, headers={"Content-Encoding": "gzip"}), 400)


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"},
                                     {"Content-Type": "application/jsonx"}, {"Content-Encoding": "br"}])
def test_another_content_type_or_encoding_is_415(fleet, headers):
    assert_error(send_client(fleet, "alice", CLIENT_BODY, headers=headers), 415)


def test_names_and_ids_are_data_and_never_sql(fleet):
    name = "'); DROP TABLE clients; --"
    key = fleet.add_client("sql", name=name)
    assert_received(fleet.post_client("sql", key, {"metrics": {"bytes_sent": 1}}))
    fleet.wait_value("tobogganing_client_bytes_sent", 1, client_id="sql", name=name)
    assert_received(send_headend(fleet, "h4", {"headend_name": name, "metrics": {"cpu_usage": 4}}))
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 4, headend_id="h4", name=name)


# --- protobuf over HTTP, health ---

def submit_request(pb, name, key, value, number=1):
    batch = pb.ingest.Batch(agent_id="http-agent", boot_id=1, number=number)
    batch.clients.add(client_id=name, time_unix_ms=[int(time.time() * 1000)], bytes_sent=[value])
    return pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[key])


@pytest.mark.parametrize("encode, headers", [(lambda body: body, {}), (gzip.compress, {"Content-Encoding": "gzip"})])
def test_a_protobuf_batch_can_be_posted(fleet, pb, encode, headers):
    value = 1000 + len(headers)
    request = submit_request(pb, "heidi", fleet.keys["heidi"], value, number=value)
    response = requests.post(f"{fleet.manager_url}/tobogganing.v1.Ingest/Submit", timeout=60,
                             data=encode(request.SerializeToString()),
                             headers={"Content-Type": "application/x-protobuf", **headers})
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/x-protobuf"
    answer = pb.ingest.SubmitResponse.FromString(response.content)
    assert (answer.stored_series, answer.stored_samples, len(answer.rejected)) == (1, 1, 0)
    assert answer.HasField("durable") and answer.next_report_in_ms > 0
    fleet.wait_value("tobogganing_client_bytes_sent", value, client_id="heidi")


def test_a_protobuf_batch_that_is_none_is_400(fleet):
    response = requests.post(f"{fleet.manager_url}/tobogganing.v1.Ingest/Submit", data=b"\xff\xff\xff", timeout=60,
                             headers={"Content-Type": "application/x-protobuf"})
    assert_error(response, 400)


def test_json_to_the_protobuf_endpoint_is_415(fleet):
    assert_error(fleet.post("/tobogganing.v1.Ingest/Submit", None, {}), 415)


def test_health_and_readiness(fleet):
    for base in (fleet.manager_url, fleet.exporter_url):
        assert requests.get(base + "/healthz", timeout=60).status_code == 200
        assert requests.get(base + "/readyz", timeout=60).status_code == 200
