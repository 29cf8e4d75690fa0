"""Ids in paths: whatever stands there, it is 400 or 404, or the thing of exactly that id; never another's, never a crash."""
import json
import re

import pytest

from harness import ROOT
from http_api import Caller

DOCUMENT = json.loads((ROOT / "gateway" / "openapi.json").read_text())
ROUTES = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if "{" in path]
VICTIM = "victim"
LONG = "a" * 128

# As they stand in the request line.
HOSTILE = [
    b"victim/", b"/victim", b"victim//", b"victim/x", b"x/victim", b"victim%2f", b"%2fvictim", b"victim%2Fx", b"x%2f..%2fvictim",
    b"victim%252f", b"victim%5c", b"victim\\",
    b".", b"..", b"%2e", b"%2e%2e", b".%2E", b"./victim", b"../victim", b"x/../victim", b"x/%2e%2e/victim", b"victim/.",
    b"victim/..", b"victim/../victim", b"victim/%2e/",
    b"%00", b"victim%00", b"%00victim", b"victim%00.x", b"victim%0a", b"victim%0d%0aX-Injected:%201", b"victim%7f", b"victim%1b",
    b"victim%20", b"%20victim", b"victim+", b"vic+tim", b"victim%09", b"victim*", b"*", b"victim,other", b"victim;v=1", b"victim&x",
    b"victim'--", b"'%20OR%20'1'='1", b"victim%22", b"%3Cscript%3E", b"victim%", b"victim%2", b"victim%zz", b"%", b"%u0076ictim",
    b"caf%C3%A9", b"caf\xc3\xa9", b"%ff", b"\xff", b"%C0%AFvictim", b"%C0%80", b"%E2%80%AEvictim", b"v%CC%88ictim", b"%EF%BD%96ictim",
    b"victim%F0%9F%99%82", LONG.encode() + b"a", LONG.encode() + b"%61", b"a" * 900, b"a" * 2000, b"%61" * 129, b"{client_id}",
    b"VICTIM", b"victim.", b".victim", b"...", b"victim:", b"%76%69%63%74%69%6d%21",
]
# Other ids than the victim's, and good ones: 404, or 401 for those who are asked for their own credential.
OTHER_IDS = {b"VICTIM", b"victim.", b".victim", b"...", b"victim:"}


@pytest.fixture(scope="module")
def fleet(cluster):
    call = Caller(cluster.ports["gateway"])

    def admin(method, path, body=None):
        answer = call(method, path, cluster.admin_token, body)
        assert answer.status == 200, answer.content
        return answer.json
    admin("POST", "/api/v1/clusters/register", {"name": "C", "region": "r", "datacenter": "d", "headend_url": "https://c",
                                                "cluster_id": VICTIM})
    key = admin("POST", "/api/v1/clients/register", {"name": "N", "type": "native", "public_key": "p", "client_id": VICTIM,
                                                     "cluster_id": VICTIM})["api_key"]
    admin("POST", "/api/v1/headends/register", {"name": "H", "headend_id": VICTIM, "cluster_id": VICTIM})
    token = admin("POST", f"/api/v1/headends/{VICTIM}/token")["token"]
    cluster.call, cluster.admin, cluster.key, cluster.token = call, admin, key, token
    return cluster


def state(fleet):
    """What the registry has, but for what lists say of time."""
    lists = {kind: fleet.admin("GET", f"/api/v1/{kind}") for kind in ("clusters", "clients", "headends", "certs")}
    return json.dumps(lists, sort_keys=True)


def credential(fleet, path):
    if path.endswith("/metrics"):
        return fleet.key if "client" in path else fleet.token
    return fleet.admin_token


def send(fleet, method, path, token):
    """A request whose path is these bytes; returns status, headers and body of the first answer."""
    body = b"" if method in ("GET", "DELETE") else b'{"client_count": 1, "metrics": {}}'
    length = b"" if method in ("GET", "DELETE") else b"Content-Length: %d\r\nContent-Type: application/json\r\n" % len(body)
    raw = fleet.call.raw(method.encode() + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " +
                         token.encode() + b"\r\n" + length + b"\r\n" + body)
    if not raw:
        return None, b"", b""  # h2o closes when a request line is none
    head, _, answer = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, answer


@pytest.mark.parametrize("method, path", ROUTES, ids=[f"{method}-{path}" for method, path in ROUTES])
def test_hostile_ids_get_400_or_404_and_change_nothing(fleet, method, path):
    before = state(fleet)
    for hostile in HOSTILE:
        target = re.sub(rb"\{\w+\}", lambda _, text=hostile: text, path.encode())
        status, head, answer = send(fleet, method, target, credential(fleet, path))
        allowed = {400, 404, 405, 414, None}
        if hostile in OTHER_IDS:
            allowed = {400, 404} if "{serial}" in path else {404, 401, 403}
        assert status in allowed, f"{target[:200]}: {status} {answer[:200]}"
        assert b"X-Injected" not in head
        if status is not None and status != 400:
            assert "error" in json.loads(answer)
    assert state(fleet) == before
    assert fleet.ingestd.running() and fleet.gateway.running()


@pytest.mark.parametrize("escaped", [b"%76ictim", b"%76%69%63%74%69%6D", b"victi%6d"])
def test_an_escaped_character_is_the_character(fleet, escaped):
    """RFC 3986 §6.2.2.2."""
    status, _, answer = send(fleet, "GET", b"/api/v1/clients/" + escaped, fleet.admin_token)
    assert status == 200 and json.loads(answer)["client_id"] == VICTIM


def test_an_id_of_128_bytes_is_an_id_and_one_of_129_is_none(fleet):
    body = {"name": "N", "type": "native", "public_key": "p", "cluster_id": VICTIM}
    assert fleet.admin("POST", "/api/v1/clients/register", {**body, "client_id": LONG[:64]})["client_id"] == LONG[:64]
    assert fleet.call("GET", f"/api/v1/clients/{LONG}", fleet.admin_token).status == 404
    assert fleet.call("GET", f"/api/v1/clients/{LONG}a", fleet.admin_token).status == 400
    answer = fleet.call("POST", "/api/v1/clients/register", fleet.admin_token, {**body, "client_id": LONG + "a"})
    assert answer.status == 400 and "client_id" in answer.json["error"]


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "é", "a\u0000b", "../x", "a" * 129, "a\n", 7, True, [], {}])
def test_a_bad_id_in_a_body_is_400_with_the_field(fleet, bad):
    body = {"name": "N", "type": "native", "public_key": "p", "cluster_id": VICTIM, "client_id": bad}
    answer = fleet.call("POST", "/api/v1/clients/register", fleet.admin_token, body)
    if bad == "":
        assert answer.status == 200 and answer.json["client_id"]  # empty: one is made
    else:
        assert answer.status == 400 and ("client_id" in answer.json["error"] or bad == "a\u0000b"), answer.content


@pytest.mark.parametrize("query", ["page=%00", "page=%ff", "page=%2f%2e%2e", "page=" + "a" * 900, "page_size=-1", "page_size=1e3",
                                   "page_size=10001", "page_size=99999999999999999999", "page_size=%31%30%30%30%31"])
@pytest.mark.parametrize("path", ["/api/v1/clients", "/api/v1/clusters", "/api/v1/headends", "/api/v1/certs", "/api/v1/audit"])
def test_a_bad_query_is_400_or_an_empty_page(fleet, path, query):
    answer = fleet.call("GET", f"{path}?{query}", fleet.admin_token)
    assert answer.status in (200, 400), answer.content
    if query.startswith("page_size") or "%00" in query or "%ff" in query:
        assert answer.status == 400 and query.split("=")[0] in answer.json["error"]
