"""The registry's services over RPC, as any admin's program calls them, on both databases."""
import hashlib
import re
import secrets
import time

import pytest

import sp
import wire
from harness import DEADLINE, sanitized, wait_until

REGISTRY = "/tobogganing.v1.Registry/"
SQL_TEXTS = ["'; DROP TABLE clients; --", "\" OR 1=1 --", "a\\'; --", "$1", "%s%n", "Robert'); DELETE FROM audit;--"]
BAD_IDS = ["a/b", "a%2Fb", "../etc", "a b", "ä", "x" * 129, "a\n", *SQL_TEXTS]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request, make_cluster):
    return make_cluster(registry=request.param)


class Admin:
    """Calls the registry by the names of its methods: admin.AddClient(client_id="c")."""

    def __init__(self, fleet, bearer=None):
        self.fleet, self.pb = fleet, fleet.pb
        self.rpc = fleet.rpc(bearer=bearer or fleet.admin_token)
        service = self.pb.registry.DESCRIPTOR.services_by_name["Registry"]
        self.methods = {method.name: method for method in service.methods}

    def types(self, name):
        method = self.methods[name]
        return (getattr(self.pb.registry, kind.name) for kind in (method.input_type, method.output_type))

    def __getattr__(self, name):
        request_type, response_type = self.types(name)
        return lambda **fields: self.rpc.call(REGISTRY + name, request_type(**fields), response_type)

    def refused(self, method, code, /, **fields):
        """Calls what has to fail, and returns the message."""
        with pytest.raises(sp.RpcError) as caught:
            getattr(self, method)(**fields)
        assert caught.value.code == code, caught.value
        return caught.value.message


@pytest.fixture
def admin(fleet):
    one = Admin(fleet)
    yield one
    one.rpc.close()


def unique(prefix):
    return f"{prefix}-{secrets.token_hex(4)}"


def audit(admin, target="", **fields):
    """All entries, the newest first."""
    entries, page = [], ""
    while True:
        answer = admin.ListAudit(target=target, page=page, **fields)
        entries += answer.entries
        page = answer.next_page
        if not page:
            return entries


# --- keys ---

def test_a_revoked_key_is_refused_on_the_very_next_submit(fleet, admin):
    client_id = unique("c")
    key = admin.AddClient(client_id=client_id).api_key
    assert fleet.submit_one(key, client=client_id) == "OK"
    assert admin.RevokeClient(client_id=client_id).revoked_unix_ms > 0
    assert fleet.submit_one(key, client=client_id) == "UNAUTHENTICATED"
    assert admin.refused("RotateClientKey", "FAILED_PRECONDITION", client_id=client_id).startswith("client_id: ")


def test_the_old_key_is_good_for_the_grace_and_not_longer(fleet, admin):
    client_id, grace_s = unique("c"), 2
    old = admin.AddClient(client_id=client_id).api_key
    rotated = admin.RotateClientKey(client_id=client_id, grace_s=grace_s)
    ends = rotated.client.previous_key_expires_unix_ms / 1000
    assert abs(ends - time.time() - grace_s) < 1
    while time.time() < ends - 0.5:
        assert fleet.submit_one(old, client=client_id) == "OK"
    wait_until(lambda: time.time() > ends, "the grace is over")
    assert fleet.submit_one(old, client=client_id) == "UNAUTHENTICATED"
    assert fleet.submit_one(rotated.api_key, client=client_id) == "OK"
    assert admin.GetClient(client_id=client_id).previous_key_expires_unix_ms == 0


def test_a_rotation_without_grace_ends_the_old_key_at_once(fleet, admin):
    client_id = unique("c")
    old = admin.AddClient(client_id=client_id).api_key
    new = admin.RotateClientKey(client_id=client_id).api_key
    assert fleet.submit_one(old, client=client_id) == "UNAUTHENTICATED"
    assert fleet.submit_one(new, client=client_id) == "OK"
    newer = admin.RotateClientKey(client_id=client_id, grace_s=3600)
    assert newer.client.key_generation == 3 and fleet.submit_one(new, client=client_id) == "OK"
    admin.RevokePreviousKey(client_id=client_id)
    assert fleet.submit_one(new, client=client_id) == "UNAUTHENTICATED"
    assert fleet.submit_one(newer.api_key, client=client_id) == "OK"


def test_a_client_rotates_its_own_key(fleet, admin):
    client_id, other = unique("c"), unique("c")
    key, others = admin.AddClient(client_id=client_id).api_key, admin.AddClient(client_id=other).api_key
    mine = Admin(fleet, key)
    assert "API key" in mine.refused("RotateClientKey", "UNAUTHENTICATED", client_id=other)
    mine.refused("GetClient", "UNAUTHENTICATED", client_id=client_id)
    new = mine.RotateClientKey(client_id=client_id).api_key
    mine.refused("RotateClientKey", "UNAUTHENTICATED", client_id=client_id)  # with the old one
    mine.rpc.close()
    assert fleet.submit_one(new, client=client_id) == "OK" and fleet.submit_one(others, client=other) == "OK"
    last = audit(admin, client_id)[0]
    assert (last.who, last.action) == (f"client {client_id}", "client.rotate_key")


def test_a_deleted_client_is_gone_everywhere(fleet, admin):
    client_id = unique("c")
    key = admin.AddClient(client_id=client_id).api_key
    assert fleet.submit_one(key, client=client_id) == "OK"
    fleet.wait_value("tobogganing_client_bytes_sent", 1, client_id=client_id)
    admin.DeleteClient(client_id=client_id)
    assert fleet.submit_one(key, client=client_id) == "UNAUTHENTICATED"
    fleet.wait_value("tobogganing_client_bytes_sent", None, client_id=client_id)
    assert admin.refused("DeleteClient", "NOT_FOUND", client_id=client_id) == "client_id: no such client"


def test_new_labels_show_without_a_new_report(fleet, admin):
    client_id = unique("c")
    key = admin.AddClient(client_id=client_id, name="before").api_key
    assert fleet.submit_one(key, client=client_id) == "OK"
    fleet.wait_value("tobogganing_client_bytes_sent", 1, client_id=client_id, name="before")
    admin.UpdateClient(client_id=client_id, name="after", type="docker", update_mask=["name", "type"])
    fleet.wait_value("tobogganing_client_bytes_sent", 1, client_id=client_id, name="after", type="docker")


# --- headends and clusters ---

def test_headends_tokens_end_when_they_are_revoked(fleet, admin):
    cluster_id, headend_id = unique("k"), unique("h")
    admin.AddCluster(cluster_id=cluster_id, region="eu", headend_url="https://vpn.example.com")
    admin.AddHeadend(headend_id=headend_id, cluster_id=cluster_id)
    token = admin.IssueHeadendToken(headend_id=headend_id).token
    assert fleet.submit_one(token, headend=headend_id) == "OK"
    admin.RevokeHeadendTokens(headend_id=headend_id)
    assert fleet.submit_one(token, headend=headend_id) == "UNAUTHENTICATED"
    token = admin.IssueHeadendToken(headend_id=headend_id).token
    assert fleet.submit_one(token, headend=headend_id) == "OK"
    own = Admin(fleet, token)
    assert own.HeartbeatCluster(cluster_id=cluster_id, client_count=5).client_count == 5
    own.refused("GetHeadend", "UNAUTHENTICATED", headend_id=headend_id)
    admin.RevokeCluster(cluster_id=cluster_id)
    own.refused("HeartbeatCluster", "UNAUTHENTICATED", cluster_id=cluster_id)
    own.rpc.close()
    assert fleet.submit_one(token, headend=headend_id) == "UNAUTHENTICATED"
    assert "its cluster is revoked" in admin.refused("IssueHeadendToken", "FAILED_PRECONDITION", headend_id=headend_id)
    admin.UpdateHeadend(headend_id=headend_id, cluster_id="", update_mask=["cluster_id"])
    assert fleet.submit_one(token, headend=headend_id) == "OK"
    admin.RevokeHeadend(headend_id=headend_id)
    assert fleet.submit_one(token, headend=headend_id) == "UNAUTHENTICATED"
    assert "is revoked" in admin.refused("IssueHeadendToken", "FAILED_PRECONDITION", headend_id=headend_id)


def test_the_manager_metrics_count_what_is_registered(fleet, admin):
    clusters = sum(not row.revoked_unix_ms for row in admin.ListClusters(page_size=10000).clusters)
    clients = sum(not row.revoked_unix_ms for row in admin.ListClients(page_size=10000).clients)
    cluster_id, first, second = unique("k"), unique("c"), unique("c")
    admin.AddCluster(cluster_id=cluster_id)
    admin.AddClient(client_id=first, cluster_id=cluster_id)
    admin.AddClient(client_id=second)
    fleet.wait_value("tobogganing_manager_clusters_total", clusters + 1)
    fleet.wait_value("tobogganing_manager_clients_total", clients + 2)
    admin.RevokeClient(client_id=first)
    admin.DeleteClient(client_id=second)
    admin.RevokeCluster(cluster_id=cluster_id)
    fleet.wait_value("tobogganing_manager_clusters_total", clusters)
    fleet.wait_value("tobogganing_manager_clients_total", clients)


# --- every string ---

@pytest.mark.parametrize("text", BAD_IDS, ids=range(len(BAD_IDS)))
def test_every_id_is_checked_first(admin, text):
    for name in admin.methods:
        request_type, _ = admin.types(name)
        fields = request_type.DESCRIPTOR.fields_by_name
        for field in ("client_id", "cluster_id", "headend_id", "target"):
            if field in fields:
                if name.startswith("Update") and fields[field].number > 1:
                    assert admin.refused(name, "INVALID_ARGUMENT", update_mask=[field],
                                         **{request_type.DESCRIPTOR.fields[0].name: "x", field: text}).startswith(f"{field}: ")
                    continue
                assert admin.refused(name, "INVALID_ARGUMENT", **{field: text}).startswith(f"{field}: "), name
        if name.startswith("List") and name != "ListAudit":
            assert admin.refused(name, "INVALID_ARGUMENT", page=text).startswith("page: ")


@pytest.mark.parametrize("raw", [b"a\0b", b"a\xff", b"\xc0\xaf", b"\xed\xa0\x80"],
                         ids=["NUL", "no UTF-8", "overlong", "surrogate"])
def test_bytes_that_are_no_text_are_refused_in_every_string(admin, raw):
    for name in admin.methods:
        request_type, _ = admin.types(name)
        for field in request_type.DESCRIPTOR.fields:
            if field.type == field.TYPE_STRING:
                with pytest.raises(sp.RpcError) as caught:
                    admin.rpc.call_bytes(REGISTRY + name, wire.field_bytes(field.number, raw))
                assert caught.value.code == "INVALID_ARGUMENT", (name, field.name)


@pytest.mark.parametrize("text", SQL_TEXTS)
def test_sql_in_names_is_only_text(admin, text):
    client_id, cluster_id, headend_id = unique("c"), unique("k"), unique("h")
    url = text.replace(" ", "_")
    cluster = admin.AddCluster(cluster_id=cluster_id, name=text, region=text, datacenter=text, headend_url=url).cluster
    assert (cluster.name, cluster.region, cluster.datacenter, cluster.headend_url) == (text, text, text, url)
    client = admin.AddClient(client_id=client_id, name=text, location=text, public_key=url, cluster_id=cluster_id).client
    assert (client.name, client.location, client.public_key) == (text, text, url)
    assert admin.AddHeadend(headend_id=headend_id, name=text).headend.name == text
    admin.UpdateClient(client_id=client_id, name=text + "2", update_mask=["name"])
    assert admin.GetClient(client_id=client_id).name == text + "2"
    placed = admin.AddClient(place=True, location=text)
    assert placed.cluster.region == text
    assert admin.ListClients(page_size=1).clients and audit(admin)


def test_names_over_their_limits_are_refused(admin):
    for name, field, limit in (("AddClient", "name", 256), ("AddClient", "location", 256), ("AddClient", "public_key", 1024),
                               ("AddCluster", "name", 256), ("AddCluster", "region", 256), ("AddCluster", "datacenter", 256),
                               ("AddCluster", "headend_url", 1024), ("AddHeadend", "name", 256)):
        getattr(admin, name)(**{field: "x" * limit})
        assert admin.refused(name, "INVALID_ARGUMENT", **{field: "x" * (limit + 1)}).startswith(f"{field}: ")
        assert admin.refused(name, "INVALID_ARGUMENT", **{field: "x\x07y"}).startswith(f"{field}: ")
    admin.AddClient(name="ä" * 128)
    admin.refused("AddClient", "INVALID_ARGUMENT", name="ä" * 128 + "x")


# --- import ---

def rows(pb, prefix, n, **fields):
    return [pb.registry.ImportedClient(client_id=f"{prefix}{i}", key_sha256=hashlib.sha256(f"tobk_{prefix}{i}".encode()).digest(),
                                       **fields) for i in range(n)]


def test_imported_clients_report_with_their_keys(fleet, pb, admin):
    prefix, import_id = unique("i") + ".", secrets.randbits(63) + 1
    chunk = rows(pb, prefix, 30)
    assert admin.ImportClients(import_id=import_id, sequence=1, clients=chunk[:20]).staged == 20
    assert fleet.submit_one(f"tobk_{prefix}0", client=prefix + "0") == "UNAUTHENTICATED"
    done = admin.ImportClients(import_id=import_id, sequence=2, clients=chunk[20:], commit=True)
    assert (done.staged, done.added) == (30, 30)
    for i in (0, 19, 20, 29):
        assert fleet.submit_one(f"tobk_{prefix}{i}", client=f"{prefix}{i}") == "OK"
    message = admin.refused("ImportClients", "ALREADY_EXISTS", import_id=import_id + 1, sequence=1, clients=chunk[:1], commit=True)
    assert prefix + "0" in message
    chunk[0].type = "toaster"
    assert admin.refused("ImportClients", "INVALID_ARGUMENT", import_id=import_id + 2, sequence=1,
                         clients=chunk).startswith("clients[0].type: ")


def test_a_hundred_thousand_clients_are_imported_in_ten_seconds(fleet, pb, admin):
    count, size = (10000, 5000) if sanitized() else (100000, 10000)
    prefix, import_id = unique("m") + ".", secrets.randbits(63) + 1
    everyone = rows(pb, prefix, count)
    chunks = [everyone[i:i + size] for i in range(0, count, size)]
    begun = time.monotonic()
    for number, chunk in enumerate(chunks, 1):
        done = admin.ImportClients(import_id=import_id, sequence=number, clients=chunk, commit=number == len(chunks))
    took = time.monotonic() - begun
    assert done.added == count
    assert fleet.submit_one(f"tobk_{prefix}{count - 1}", client=f"{prefix}{count - 1}") == "OK"
    assert took < (DEADLINE if sanitized() else 10), f"{took:.1f} s"


# --- counting, and the audit log ---

def test_attempts_are_counted_once_at_the_door_that_judged_them(fleet, admin):
    client_id, cluster_id, headend_id = unique("c"), unique("k"), unique("h")
    admin.AddCluster(cluster_id=cluster_id)
    admin.AddHeadend(headend_id=headend_id, cluster_id=cluster_id)
    key = admin.AddClient(client_id=client_id).api_key
    token = admin.IssueHeadendToken(headend_id=headend_id).token
    # Gateway and exporter come with the cluster's token all the time.
    kinds = [*((kind, result) for kind in ("admin", "api_key", "jwt") for result in ("success", "failure")),
             ("cluster", "failure")]

    def settled():
        """The counters, once two scrapes agree."""
        seen = []

        def same():
            seen.append([fleet.attempts(*kind) for kind in kinds])
            return len(seen) > 1 and seen[-1] == seen[-2] and (time.monotonic() - begun > 1.5)
        begun = time.monotonic()
        wait_until(same, "the counters settle")
        return dict(zip(kinds, seen[-1]))
    before = settled()
    with fleet.rpc(bearer="no-token") as rpc:
        for _ in range(3):
            with pytest.raises(sp.RpcError):
                rpc.call_bytes(REGISTRY + "ListClients", b"")
        with pytest.raises(sp.RpcError):
            rpc.call_bytes("/tobogganing.v1.Bus/Snapshot", b"")
    for bearer, good, call in ((key, 1, ("RotateClientKey", {"client_id": client_id, "grace_s": 60})),
                               ("tobk_wrong", 0, ("RotateClientKey", {"client_id": client_id})),
                               (token, 1, ("HeartbeatCluster", {"cluster_id": cluster_id})),
                               (token[:-4] + "AAAA", 0, ("HeartbeatCluster", {"cluster_id": cluster_id}))):
        one = Admin(fleet, bearer)
        if good:
            getattr(one, call[0])(**call[1])
        else:
            one.refused(call[0], "UNAUTHENTICATED", **call[1])
        one.rpc.close()
    admin.GetClient(client_id=client_id)
    expected = {("admin", "success"): 1, ("admin", "failure"): 3, ("api_key", "success"): 1, ("api_key", "failure"): 1,
                ("jwt", "success"): 1, ("jwt", "failure"): 1, ("cluster", "failure"): 1}
    wait_until(lambda: {kind: fleet.attempts(*kind) - before[kind] for kind in kinds} == expected,
               f"the counters grew by {expected}", 20)


def test_every_act_is_in_the_audit_log_and_no_secret_anywhere(fleet, admin):
    client_id, cluster_id, headend_id = unique("c"), unique("k"), unique("h")
    order = fleet.pb.certificates.CertificateOrder()
    answers = [admin.AddCluster(cluster_id=cluster_id, headend_url="https://h.example"),
               admin.AddHeadend(headend_id=headend_id),
               admin.AddClient(client_id=client_id, certificate=order),
               admin.RotateClientKey(client_id=client_id, grace_s=60),
               admin.IssueHeadendToken(headend_id=headend_id)]
    admin.RevokePreviousKey(client_id=client_id)
    admin.UpdateClient(client_id=client_id, name="n", update_mask=["name"])
    admin.RevokeClient(client_id=client_id)
    admin.DeleteClient(client_id=client_id)
    admin.EraseClient(client_id=client_id)
    admin.UpdateHeadend(headend_id=headend_id, name="n", update_mask=["name"])
    admin.RevokeHeadendTokens(headend_id=headend_id)
    admin.RevokeHeadend(headend_id=headend_id)
    admin.DeleteHeadend(headend_id=headend_id)
    admin.UpdateCluster(cluster_id=cluster_id, name="n", update_mask=["name"])
    admin.RevokeCluster(cluster_id=cluster_id)
    admin.DeleteCluster(cluster_id=cluster_id)
    acts = {
        client_id: ["add", "rotate_key", "revoke_previous_key", "update", "revoke", "delete", "erase"],
        headend_id: ["add", "issue_token", "update", "revoke_tokens", "revoke", "delete"],
        cluster_id: ["add", "update", "revoke", "delete"],
    }
    who = "admin token " + hashlib.sha256(fleet.admin_token.encode()).hexdigest()[:8]
    for target, expected in acts.items():
        kind = {"c": "client", "h": "headend", "k": "cluster"}[target[0]]
        everything = audit(admin, target)[::-1]
        entries = [entry for entry in everything if not entry.action.startswith("certificate.")]
        assert [entry.action for entry in entries] == [f"{kind}.{act}" for act in expected]
        assert {entry.who for entry in entries} == {who}
        assert all(entry.peer.startswith("127.") for entry in entries)
        assert [entry.number for entry in entries] == sorted(entry.number for entry in entries)
    given = [answers[2].api_key, answers[3].api_key, answers[4].token, answers[4].token.rsplit(".", 1)[1],
             answers[2].certificate.key.splitlines()[1], fleet.admin_token, fleet.cluster_token]
    texts = [str(audit(admin)), *(daemon.log() for daemon in fleet.daemons)]
    for secret in given:
        assert not any(secret in text for text in texts), "a secret is in the audit log or in a daemon's log"
    for event in ("client_added", "client_key_rotated", "client_revoked", "client_deleted", "headend_token_issued",
                  "cluster_revoked"):
        assert re.search(f"event={event} .*={re.escape(client_id)}|event={event} .*={headend_id}|event={event} .*={cluster_id}",
                         fleet.ingestd.log()), event


def test_the_audit_log_can_be_read_since_a_moment(admin):
    client_id = unique("c")
    admin.AddClient(client_id=client_id)
    at = audit(admin, client_id)[0].at_unix_ms
    assert len(audit(admin, client_id, since_unix_ms=at)) == 1
    assert not audit(admin, client_id, since_unix_ms=at + 1)
    assert audit(admin, page_size=1)[0].number == audit(admin)[0].number
