"""The admin's side of the gateway: what the documented clients do, from registration to the end."""
import base64
import json
import re
import subprocess
import time

import pytest

from harness import wait_until
from http_api import Caller
from postgresql import Postgresql

CLUSTER = {"name": "Frankfurt", "region": "eu", "datacenter": "fra", "headend_url": "https://fra.example.com:8443"}
CLIENT = {"name": "Laptop", "type": "native", "public_key": "pk-1"}
REPORT = {"headless": True, "metrics": {"bytes_sent": 10, "connection_uptime": 12345.67}}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@pytest.fixture(scope="module")
def call(cluster):
    caller = Caller(cluster.ports["gateway"])

    def admin(method, path, body=None, token=cluster.admin_token, **more):
        return caller(method, path, token, body, **more)
    admin.caller = caller
    return admin


def good(answer):
    assert answer.status == 200, answer.content
    return answer.json


def register_cluster(call, cluster_id, **more):
    return good(call("POST", "/api/v1/clusters/register", {**CLUSTER, "cluster_id": cluster_id, **more}))


def register_client(call, client_id, **more):
    return good(call("POST", "/api/v1/clients/register", {**CLIENT, "client_id": client_id, **more}))


def report(call, client_id, key):
    return call("POST", f"/api/v1/clients/{client_id}/metrics", REPORT, token=key).status


def test_a_cluster_is_registered_seen_alive_and_deleted(call):
    registered = good(call("POST", "/api/v1/clusters/register", CLUSTER))
    cluster_id = registered["cluster_id"]
    assert registered["status"] == "active" and set(registered["certificates"]) == {"key", "cert", "ca"}
    heard = good(call("POST", f"/api/v1/clusters/{cluster_id}/heartbeat", {"client_count": 3}))
    assert heard == {"cluster_id": cluster_id, "status": "active"}
    row = good(call("GET", f"/api/v1/clusters/{cluster_id}"))
    assert {name: row[name] for name in CLUSTER} == CLUSTER
    assert row["client_count"] == 3 and row["revoked"] is None
    assert TIME.fullmatch(row["created"]) and TIME.fullmatch(row["heartbeat"])
    assert row in good(call("GET", "/api/v1/clusters"))["clusters"]
    assert good(call("DELETE", f"/api/v1/clusters/{cluster_id}")) == {"cluster_id": cluster_id, "status": "deleted"}
    assert call("GET", f"/api/v1/clusters/{cluster_id}").status == 404


def test_no_cluster_fits_is_409(make_cluster):
    alone = make_cluster()
    answer = Caller(alone.ports["gateway"])("POST", "/api/v1/clients/register", alone.admin_token, CLIENT)
    assert answer.status == 409 and "cluster" in answer.json["error"]


@pytest.mark.parametrize("location", ["ASIA", "sin", {"region": "asia"}, {"datacenter": "sin", "region": "eu"}])
def test_a_client_is_placed_where_it_is(call, location):
    if call("GET", "/api/v1/clusters/asia").status == 404:
        register_cluster(call, "asia", region="asia", datacenter="sin", headend_url="https://asia")
        register_cluster(call, "eu")
    placed = good(call("POST", "/api/v1/clients/register", {**CLIENT, "location": location}))
    assert placed["cluster"] == {"id": "asia", "headend_url": "https://asia"}
    assert good(call("GET", f"/api/v1/clients/{placed['client_id']}"))["cluster_id"] == "asia"


def test_a_client_registers_reports_rotates_its_key_and_is_revoked(call):
    register_cluster(call, "c-life")
    registered = register_client(call, "life", cluster_id="c-life")
    assert registered["cluster"] == {"id": "c-life", "headend_url": CLUSTER["headend_url"]}
    first = registered["api_key"]
    assert report(call, "life", first) == 200
    rotated = good(call("POST", "/api/v1/clients/life/rotate-key", token=first))
    assert rotated["client_id"] == "life" and TIME.fullmatch(rotated["previous_key_expires"])
    second = rotated["new_api_key"]
    assert second != first
    assert [report(call, "life", key) for key in (first, second)] == [200, 200]
    third = good(call("POST", "/api/v1/clients/life/rotate-key", {"grace_seconds": 0}, token=second))
    assert third["previous_key_expires"] is None
    keys = (first, second, third["new_api_key"])
    assert [report(call, "life", key) for key in keys] == [401, 401, 200]
    revoked = good(call("POST", "/api/v1/clients/life/revoke"))
    assert TIME.fullmatch(revoked["revoked"]) and report(call, "life", keys[2]) == 401
    certificates = good(call("GET", "/api/v1/certs?subject=life"))["certificates"]
    assert certificates and all(certificate["revoked"] for certificate in certificates)
    assert good(call("DELETE", "/api/v1/clients/life")) == {"client_id": "life", "status": "deleted"}
    assert call("GET", "/api/v1/clients/life").status == 404


def test_a_post_needs_no_length_when_it_needs_no_body(call):
    register_cluster(call, "c-bare")
    register_client(call, "bare", cluster_id="c-bare")
    assert call("POST", "/api/v1/clients/bare/revoke", length=False).status == 200


def test_clients_are_listed_in_pages(call):
    register_cluster(call, "c-pages")
    names = {f"page-{i}" for i in range(7)}
    for name in names:
        register_client(call, name, cluster_id="c-pages")
    seen, page, requests = [], "", 0
    while requests == 0 or page:
        answer = good(call("GET", f"/api/v1/clients?page_size=3&page={page}"))
        assert len(answer["clients"]) <= 3
        seen += [client["client_id"] for client in answer["clients"]]
        page, requests = answer["next_page"], requests + 1
    assert len(seen) == len(set(seen)) and names <= set(seen) and requests >= 3
    assert not any("key" in name and "tobk_" in str(value) for name, value in answer["clients"][0].items())


def test_a_headend_gets_tokens_and_reports(call):
    register_cluster(call, "c-head")
    made = good(call("POST", "/api/v1/headends/register", {"name": "H", "cluster_id": "c-head", "headend_id": "h-1"}))
    assert made["headend_id"] == "h-1" and set(made["certificates"]) == {"key", "cert", "ca"}
    issued = good(call("POST", "/api/v1/headends/h-1/token", {"ttl_seconds": 600}))
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in issued["token"].split(".")[:2])
    assert header["kid"] == issued["kid"] and header["alg"] == "ES256" and claims["sub"] == "h-1"
    assert abs(claims["exp"] - time.time() - 600) < 60
    kids = [key["kid"] for key in good(call("GET", "/.well-known/jwks.json", token=None))["keys"]]
    assert issued["kid"] in kids
    token = issued["token"]
    body = {"headend_name": "Head 1", "metrics": {"cpu_usage": 45.2}}
    assert call("POST", "/api/v1/headends/h-1/metrics", body, token=token).status == 200
    last = good(call("GET", "/api/v1/headends/h-1/metrics", token=token))
    assert abs(last.pop("last_check_in") - time.time()) < 60
    assert last == {"headend_id": "h-1", "headend_name": "Head 1", "region": "eu", "datacenter": "fra",
                    "metrics": {"cpu_usage": 45.2}}
    assert good(call("POST", "/api/v1/clusters/c-head/heartbeat", {"client_count": 1}, token=token))["status"] == "active"
    assert good(call("POST", "/api/v1/headends/h-1/revoke"))["revoked"]
    assert call("POST", "/api/v1/headends/h-1/metrics", body, token=token).status == 401
    assert call("POST", "/api/v1/headends/h-1/token").status == 409


def test_the_last_report_is_read_back_with_the_key_that_reports(call):
    register_cluster(call, "c-last")
    key = register_client(call, "last", cluster_id="c-last")["api_key"]
    assert call("GET", "/api/v1/clients/last/metrics", token=key).status == 404
    assert report(call, "last", key) == 200
    answer = call("GET", "/api/v1/clients/last/metrics", token=key)
    last = good(answer)
    assert answer.headers["Cache-Control"] == "no-store"
    assert abs(last.pop("last_check_in") - time.time()) < 60
    assert last == {"client_id": "last", "name": "Laptop", "type": "native", **REPORT}
    assert call("GET", "/api/v1/clients/last/metrics", token=key + "x").status == 401
    assert call("GET", "/api/v1/clients/last/metrics").status == 401  # the admin's is none of a client's


def test_the_last_report_is_found_wherever_it_went(make_cluster):
    """Two ingestd that share what is registered, and each has other reports."""
    cluster = make_cluster(start=False)
    cluster.add_ingestd()
    keys = cluster.prepare(["roams"])
    cluster.dial_all()
    cluster.start()
    call = Caller(cluster.ports["gateway"])
    for number, ingestd in enumerate(cluster.ingestds):
        batch = cluster.pb.ingest.Batch(agent_id=f"direct-{number}", boot_id=1, number=1)
        batch.clients.add(client_id="roams", time_unix_ms=[int(time.time() * 1000)], bytes_sent=[100 + number])
        with cluster.rpc(url=ingestd.url) as rpc:
            answer = rpc.submit(cluster.pb.ingest.SubmitRequest(batch=batch.SerializeToString(),
                                                                credentials=[keys["roams"]]))
        assert answer.stored_series == 1
        last = good(call("GET", "/api/v1/clients/roams/metrics", keys["roams"]))
        assert last["metrics"] == {"bytes_sent": 100 + number}
    cluster.ingestds[1].stop()
    wait_until(lambda: call("GET", "/api/v1/clients/roams/metrics", keys["roams"]).json.get("metrics")
               == {"bytes_sent": 100}, "the one that is left answers")


def test_while_the_database_is_away_changes_are_503_and_reports_go_on(make_cluster):
    database = Postgresql()
    cluster = make_cluster(registry=database)
    caller = Caller(cluster.ports["gateway"])

    def call(method, path, body=None, token=cluster.admin_token):
        return caller(method, path, token, body)
    register_cluster(call, "c")
    key = register_client(call, "steady", cluster_id="c")["api_key"]
    database.stop("immediate")
    for method, path, body in (("GET", "/api/v1/clients", None), ("POST", "/api/v1/clients/steady/revoke", None),
                               ("POST", "/api/v1/clusters/register", CLUSTER), ("POST", "/api/v1/clients/steady/rotate-key", {})):
        answer = call(method, path, body)
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1, answer.content
    assert report(call, "steady", key) == 200
    assert good(call("GET", "/api/v1/clients/steady/metrics", token=key))["client_id"] == "steady"
    database.restart()
    wait_until(lambda: call("POST", "/api/v1/clients/steady/revoke").status == 200, "the database is back")
    assert report(call, "steady", key) == 401


def test_certificates_are_issued_listed_and_revoked(call, tmp_path):
    issued = good(call("POST", "/api/v1/certs/generate", {"type": "server", "subject": "vpn.example.com", "validity_days": 7,
                                                          "names": ["vpn.example.com", "192.0.2.1"]}))
    serial = issued["serial"]
    row = good(call("GET", f"/api/v1/certs/{serial}"))
    assert row["pem"] == issued["certificate"] and row["revoked"] is None and row["not_after"] == issued["not_after"]
    (tmp_path / "ca.pem").write_bytes(call("GET", "/api/v1/certs/ca.pem", token=None).content)
    (tmp_path / "cert.pem").write_text(issued["certificate"])
    assert (tmp_path / "ca.pem").read_text() == issued["ca"]

    def verify(*options):
        return subprocess.run(["openssl", "verify", "-CAfile", "ca.pem", *options, "cert.pem"], cwd=tmp_path,
                              capture_output=True, text=True, check=False)
    assert verify().returncode == 0, verify().stderr
    revoked = good(call("POST", f"/api/v1/certs/{serial}/revoke", {"reason": "superseded"}))
    assert revoked["revoked"] and revoked["reason"] == "superseded"

    def in_the_list():
        (tmp_path / "crl.pem").write_bytes(call("GET", "/api/v1/certs/crl.pem", token=None).content)
        return "certificate revoked" in verify("-crl_check", "-CRLfile", "crl.pem").stderr
    wait_until(in_the_list, "the certificate is in the revocation list")
    der = call("GET", "/api/v1/certs/crl", token=None)
    assert der.type == "application/pkix-crl" and der.content[0] == 0x30


def test_a_csr_is_signed_and_no_key_is_answered(call, tmp_path):
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=whatever", "-keyout", "key.pem", "-out", "csr.pem"], cwd=tmp_path, check=True, capture_output=True)
    register_cluster(call, "c-csr")
    csr = (tmp_path / "csr.pem").read_text()
    registered = register_client(call, "csr", cluster_id="c-csr", csr=csr, validity_days=30)
    assert set(registered["certificates"]) == {"cert", "ca"}
    issued = good(call("POST", "/api/v1/certs/generate", {"type": "client", "subject": "csr", "csr": csr}))
    assert "key" not in issued
    assert call("POST", "/api/v1/certs/generate", {"type": "client", "subject": "csr", "csr": "nonsense"}).status == 400


def test_what_admins_did_is_in_the_audit_log(call):
    register_cluster(call, "c-audit")
    register_client(call, "audited", cluster_id="c-audit")
    good(call("POST", "/api/v1/clients/audited/revoke"))
    entries = good(call("GET", "/api/v1/audit?target=audited"))["entries"]
    actions = [entry["action"] for entry in entries]
    assert "client.add" in actions and "client.revoke" in actions
    assert all(entry["who"].startswith("admin") and entry["peer"] == "127.0.0.1" and TIME.fullmatch(entry["at"])
               for entry in entries)


@pytest.mark.parametrize("path", ["/api/v1/clients", "/api/v1/clusters", "/api/v1/headends", "/api/v1/certs", "/api/v1/audit"])
def test_without_the_admins_token_it_is_401(call, cluster, path):
    for token in (None, "wrong", cluster.cluster_token, cluster.metrics_token):
        answer = call("GET", path, token=token)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"


def test_secrets_are_not_to_be_cached(call):
    for answer in (call("GET", "/api/v1/clients"), call("GET", "/api/v1/clients", token="wrong")):
        assert answer.headers["Cache-Control"] == "no-store"
    assert call("GET", "/.well-known/jwks.json", token=None).headers["Cache-Control"] == "max-age=300"


def test_texts_are_data(call):
    register_cluster(call, "c-text")
    name = "'); DROP TABLE clients; -- \u2028 \U0001f642 \\ \" </script>"
    register_client(call, "text", cluster_id="c-text", name=name, public_key="';--", location="x' OR '1'='1")
    row = good(call("GET", "/api/v1/clients/text"))
    assert (row["name"], row["public_key"], row["location"]) == (name, "';--", "x' OR '1'='1")
    for name in ("n" * 257, "a\nb", "\x7f"):
        answer = call("POST", "/api/v1/clients/register", {**CLIENT, "cluster_id": "c-text", "name": name})
        assert answer.status == 400 and "name" in answer.json["error"]
    bad = b'{"name": "\xff", "type": "native", "public_key": "p"}'
    assert call("POST", "/api/v1/clients/register", bad).status == 400


def test_requests_are_counted_by_pattern(call, cluster):
    pattern = "/api/v1/clients/{client_id}/revoke"
    for name in ("nobody-1", "nobody-2", "nobody-3"):
        assert call("POST", f"/api/v1/clients/{name}/revoke").status == 404
    scrape = cluster.wait_value("tobogganing_manager_http_requests_total", 3, method="POST", endpoint=pattern, status="404")
    endpoints = {labels["endpoint"] for labels, _ in scrape.series("tobogganing_manager_http_requests_total")}
    assert not [endpoint for endpoint in endpoints if "nobody" in endpoint]
