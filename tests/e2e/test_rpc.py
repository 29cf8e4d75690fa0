"""The RPC side, spoken to by an agent in Python: every limit and code of the contract."""
import socket
import struct
import time
import zlib

import pytest

import sp
import wire

SUBMIT = "/tobogganing.v1.Ingest/Submit"
MAX = 2**63 - 1
MIB = 1 << 20


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.add_cluster("c1", region="eu", datacenter="dc")
    cluster.keys = {name: cluster.add_client(name, cluster="c1") for name in ("ann", "ben", "cat", "dan", "eve")}
    cluster.tokens = {name: cluster.add_headend(name, cluster="c1") for name in ("h1", "h2")}
    return cluster


@pytest.fixture
def rpc(fleet):
    with fleet.rpc() as connection:
        yield connection


def now_ms():
    return int(time.time() * 1000)


class Batch:
    """A SubmitRequest in the making. Every one has its own number."""
    numbers = iter(range(1, 1 << 30))

    def __init__(self, pb):
        self.pb = pb
        self.batch = pb.ingest.Batch(agent_id="py-agent", boot_id=42, number=next(self.numbers))
        self.credentials = []
        self.raw = b""  # more fields of the Batch, as bytes

    def client(self, client_id, key, times=None, **columns):
        """Columns are given as values and sent as deltas."""
        times = times or [now_ms()]
        self.batch.clients.add(client_id=client_id, time_unix_ms=wire.deltas(times),
                               **{name: wire.deltas(values) for name, values in columns.items()})
        self.credentials.append(key)
        return self

    def headend(self, headend_id, token, times=None, name="", **columns):
        self.batch.headends.add(headend_id=headend_id, name=name, time_unix_ms=wire.deltas(times or [now_ms()]), **columns)
        self.credentials.append(token)
        return self

    def request(self):
        return self.pb.ingest.SubmitRequest(batch=self.batch.SerializeToString() + self.raw,
                                            credentials=self.credentials)


def code_of(rpc, method, body, **options):
    with pytest.raises(sp.RpcError) as caught:
        rpc.call_bytes(method, body, **options)
    assert caught.value.message, "a failure without a message"
    return caught.value.code


def submit_code(rpc, request):
    return code_of(rpc, SUBMIT, request if isinstance(request, bytes) else request.SerializeToString())


def only_rejection(rpc, pb, request, code):
    """Submits a batch of one bad series, which is rejected for `code` whether the whole call fails or it alone."""
    try:
        answer = rpc.submit(request)
    except sp.RpcError as error:
        assert error.code == code, error
        return error.message
    assert answer.stored_series == 0 and len(answer.rejected) == 1, answer
    assert pb.rpc.Code.Name(answer.rejected[0].code) == "CODE_" + code
    assert answer.rejected[0].reason
    return answer.rejected[0].reason


# --- what works ---

def test_a_batch_of_columns_is_stored_and_shown(fleet, pb, rpc):
    start = now_ms() - 60000
    times = [start + i * 1000 for i in range(60)]
    request = Batch(pb).client("ann", fleet.keys["ann"], times, bytes_sent=[10**6 + i * 1000 for i in range(60)],
                               bytes_received=[i * i for i in range(60)], connection_uptime_ms=[i * 1000 for i in range(60)])
    answer = rpc.submit(request.request(), compress=True)
    assert (answer.stored_series, answer.stored_samples, len(answer.rejected)) == (1, 60, 0)
    assert answer.HasField("durable") and answer.durable.segment + answer.durable.offset > 0
    assert answer.next_report_in_ms > 0
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 10**6 + 59000, client_id="ann")
    assert scrape.value("tobogganing_client_bytes_received", client_id="ann") == 59 * 59
    assert scrape.value("tobogganing_client_connection_uptime_seconds", client_id="ann") == 59
    assert scrape.value("tobogganing_client_packets_sent", client_id="ann") is None


def test_a_headends_columns_are_doubles(fleet, pb, rpc):
    request = Batch(pb).headend("h1", fleet.tokens["h1"], [now_ms() - 1000, now_ms()], name="edge é",
                                cpu_usage=[1.25, 99.5], active_connections=[3, 4])
    assert rpc.submit(request.request()).stored_samples == 2
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 99.5, headend_id="h1", name="edge é", region="eu")


def test_one_credential_serves_all_series_of_a_batch(fleet, pb, rpc):
    batch = Batch(pb).client("ann", fleet.keys["ann"]).client("ann", fleet.keys["ann"], [now_ms() - 5])
    batch.credentials = batch.credentials[:1]
    assert rpc.submit(batch.request()).stored_series == 2


def test_later_samples_win_whatever_the_order_of_arrival(fleet, pb, rpc):
    at = now_ms() - 10000
    for time_ms, value in ((at + 2000, 200), (at + 1000, 100), (at + 3000, 300), (at, 50)):
        assert rpc.submit(Batch(pb).client("ben", fleet.keys["ben"], [time_ms], bytes_sent=[value]).request())
    marker = Batch(pb).client("ben", fleet.keys["ben"], [at + 2500], packets_sent=[1]).request()
    assert rpc.submit(marker).stored_samples == 1
    assert fleet.wait_value("tobogganing_client_bytes_sent", 300, client_id="ben")


def test_a_repeated_batch_changes_nothing(fleet, pb, rpc):
    request = Batch(pb).client("ben", fleet.keys["ben"], bytes_sent=[777])
    first = rpc.submit(request.request())
    second = rpc.submit(request.request())
    assert first.stored_series == second.stored_series == 1
    fleet.wait_value("tobogganing_client_bytes_sent", 777, client_id="ben")


def test_the_greatest_counter_survives_the_wire(fleet, pb, rpc):
    at = now_ms()
    request = Batch(pb).client("cat", fleet.keys["cat"], [at - 2, at - 1, at], bytes_sent=[0, MAX, MAX])
    assert rpc.submit(request.request()).stored_samples == 3
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", float(MAX), client_id="cat")
    assert scrape.text_value("tobogganing_client_bytes_sent", client_id="cat") == str(MAX)


def test_health_needs_no_credential(fleet, pb, rpc):
    answer = rpc.call("/tobogganing.v1.Health/Check", pb.health.HealthCheckRequest(), pb.health.HealthCheckResponse)
    assert answer.status == pb.health.HealthCheckResponse.STATUS_SERVING
    assert answer.clients >= 5 and answer.headends == 2 and answer.clusters == 1 and answer.instance and answer.epoch


def test_a_compressed_request_may_get_a_compressed_answer(fleet, pb):
    with fleet.rpc(bearer=fleet.admin_token) as admin:
        for i in range(40):
            admin.call("/tobogganing.v1.Registry/AddCluster", pb.registry.AddClusterRequest(cluster_id=f"z{i:03}"),
                       pb.registry.AddClusterResponse)
        body = pb.registry.ListRequest().SerializeToString()
        plain = pb.registry.ListClustersResponse.FromString(admin.call_bytes("/tobogganing.v1.Registry/ListClusters", body))
        packed = pb.registry.ListClustersResponse.FromString(
            admin.call_bytes("/tobogganing.v1.Registry/ListClusters", body, compress=True))
    assert plain == packed and len(plain.clusters) >= 41


# --- one bad series among good ones ---

@pytest.mark.parametrize("make_bad, code", [
    (lambda b, f: b.client("ben", "tobk_wrong", bytes_sent=[1]), "UNAUTHENTICATED"),
    (lambda b, f: b.client("nobody", f.keys["ben"], bytes_sent=[1]), "UNAUTHENTICATED"),
    (lambda b, f: b.client("ben", f.keys["ann"], bytes_sent=[1]), "UNAUTHENTICATED"),
    (lambda b, f: b.client("ben", f.keys["ben"], [now_ms() + 360000], bytes_sent=[1]), "INVALID_ARGUMENT"),
    (lambda b, f: b.client("ben", f.keys["ben"], bytes_sent=[-1]), "INVALID_ARGUMENT"),
    (lambda b, f: b.client("ben", f.keys["ben"], bytes_sent=[1, 2]), "INVALID_ARGUMENT"),
], ids=["wrong key", "unknown client", "another's key", "6 minutes ahead", "negative", "columns of unequal length"])
def test_only_the_bad_series_is_rejected(fleet, pb, rpc, make_bad, code):
    value = now_ms() % 10**6
    batch = Batch(pb).client("dan", fleet.keys["dan"], bytes_sent=[value])
    make_bad(batch, fleet)
    batch.client("eve", fleet.keys["eve"], bytes_sent=[value + 1])
    answer = rpc.submit(batch.request())
    assert answer.stored_series == 2 and answer.stored_samples == 2
    assert [(r.series, pb.rpc.Code.Name(r.code)) for r in answer.rejected] == [(1, "CODE_" + code)]
    assert answer.rejected[0].reason
    fleet.wait_value("tobogganing_client_bytes_sent", value, client_id="dan")
    fleet.wait_value("tobogganing_client_bytes_sent", value + 1, client_id="eve")


def test_headends_are_counted_after_clients_in_rejections(fleet, pb, rpc):
    batch = Batch(pb).client("dan", fleet.keys["dan"]).headend("h1", fleet.tokens["h1"], cpu_usage=[1])
    batch.headend("h2", fleet.tokens["h1"], cpu_usage=[1])
    answer = rpc.submit(batch.request())
    assert [(r.series, r.code) for r in answer.rejected] == [(2, pb.rpc.CODE_PERMISSION_DENIED)]


# --- who may ---

def test_a_headends_token_for_another_is_permission_denied(fleet, pb, rpc):
    only_rejection(rpc, pb, Batch(pb).headend("h2", fleet.tokens["h1"], cpu_usage=[1]).request(), "PERMISSION_DENIED")


def test_a_clients_key_for_a_headend_is_unauthenticated(fleet, pb, rpc):
    only_rejection(rpc, pb, Batch(pb).headend("h1", fleet.keys["ann"], cpu_usage=[1]).request(), "UNAUTHENTICATED")


def test_a_series_without_a_credential_is_refused(fleet, pb, rpc):
    batch = Batch(pb).client("ann", "").request()
    only_rejection(rpc, pb, batch, "UNAUTHENTICATED")
    del batch.credentials[:]
    try:
        answer = rpc.submit(batch)
        assert answer.stored_series == 0 and answer.rejected[0].code == pb.rpc.CODE_UNAUTHENTICATED
    except sp.RpcError as error:
        assert error.code in ("UNAUTHENTICATED", "INVALID_ARGUMENT")


def test_credentials_are_one_or_one_for_each_series(fleet, pb, rpc):
    batch = Batch(pb).client("ann", fleet.keys["ann"]).client("ben", fleet.keys["ben"]).client("cat", fleet.keys["cat"])
    batch.credentials = batch.credentials[:2]
    assert submit_code(rpc, batch.request()) == "INVALID_ARGUMENT"


def test_a_revoked_key_is_refused_on_the_very_next_request(fleet, pb, rpc):
    key = fleet.add_client("rev")
    assert rpc.submit(Batch(pb).client("rev", key, bytes_sent=[1]).request()).stored_series == 1
    fleet.ctl_ok("client", "revoke", "rev")
    only_rejection(rpc, pb, Batch(pb).client("rev", key, bytes_sent=[2]).request(), "UNAUTHENTICATED")


@pytest.mark.parametrize("method", ["/tobogganing.v1.Registry/ListClients", "/tobogganing.v1.Bus/Snapshot",
                                    "/tobogganing.v1.Processes/Report"])
@pytest.mark.parametrize("bearer", [None, "", "wrong", "x" * 5000])
def test_inner_methods_need_their_token(fleet, method, bearer):
    with fleet.rpc(bearer=bearer) as connection:
        assert code_of(connection, method, b"") == "UNAUTHENTICATED"


def test_admin_and_cluster_tokens_open_only_their_own_doors(fleet):
    with fleet.rpc(bearer=fleet.cluster_token) as connection:
        assert code_of(connection, "/tobogganing.v1.Registry/ListClients", b"") == "UNAUTHENTICATED"
        connection.call_bytes("/tobogganing.v1.Bus/Snapshot", b"")
    with fleet.rpc(bearer=fleet.admin_token) as connection:
        assert code_of(connection, "/tobogganing.v1.Bus/Snapshot", b"") == "UNAUTHENTICATED"


# --- the envelope ---

@pytest.mark.parametrize("method", ["", "/", "Submit", "/tobogganing.v1.Ingest/Nothing", "/tobogganing.v1.Nothing/Submit",
                                    "x" * 1000, "/tobogganing.v1.Ingest/Submit/"])
def test_an_unknown_method_is_unimplemented(rpc, method):
    assert code_of(rpc, method, b"") == "UNIMPLEMENTED"


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\x0b", b"\x0a\x03a\x00b"],
                         ids=["tag cut", "length beyond the end", "bad UTF-8", "group", "NUL in a string"])
def test_a_message_that_is_no_envelope_is_an_invalid_argument(rpc, pb, raw):
    response = rpc.send(raw)
    assert response.code == pb.rpc.CODE_INVALID_ARGUMENT and response.message


def test_an_empty_message_is_answered(rpc, pb):
    assert rpc.send(b"").code in (pb.rpc.CODE_UNIMPLEMENTED, pb.rpc.CODE_INVALID_ARGUMENT)


def test_an_unknown_encoding_is_refused(rpc, pb):
    request = rpc.envelope(SUBMIT, b"")
    request.encoding = 7
    assert rpc.send(request).code in (pb.rpc.CODE_UNIMPLEMENTED, pb.rpc.CODE_INVALID_ARGUMENT)


@pytest.mark.parametrize("body, size", [
    (b"garbage", 7),
    (zlib.compress(b"x" * 100) + b"tail", 100),
    (zlib.compress(b"x" * 100)[:-3], 100),
    (zlib.compress(b"x" * 100), 99),
    (zlib.compress(b"x" * 100), 101),
    (zlib.compress(b"x" * 100), 0),
    (b"", 0),
], ids=["garbage", "bytes after it", "cut", "longer than declared", "shorter than declared", "no size", "empty"])
def test_a_broken_zlib_body_is_an_invalid_argument(rpc, pb, body, size):
    request = pb.rpc.Request(method=SUBMIT, encoding=pb.rpc.ENCODING_ZLIB, size=size, body=body)
    response = rpc.send(request)
    assert response.code == pb.rpc.CODE_INVALID_ARGUMENT, response


def test_a_body_that_inflates_to_16_mib_is_read_and_one_more_byte_is_refused(rpc, pb):
    # One unknown bytes field (a few of those are allowed) that fills the body exactly.
    for size, allowed in ((16 * MIB, True), (16 * MIB + 1, False)):
        raw = wire.varint(99 << 3 | 2) + wire.varint(size - 2 - 4) + b"\0" * (size - 2 - 4)
        assert len(raw) == size
        request = pb.rpc.Request(method=SUBMIT, encoding=pb.rpc.ENCODING_ZLIB, size=size, body=zlib.compress(raw, 1))
        response = rpc.send(request)
        assert response.code == pb.rpc.CODE_INVALID_ARGUMENT  # either way: there is no batch in it
        assert ("size" in response.message) == (not allowed), response.message


def test_a_message_over_4_mib_closes_its_connection_and_no_other(fleet, pb, rpc):
    with fleet.rpc() as big:
        with pytest.raises(sp.Closed):
            big.call_bytes(SUBMIT, b"x" * (4 * MIB + 65536))
    with fleet.rpc() as liar:  # claims 4 EiB
        liar.req.socket.sendall(struct.pack(">Q", 1 << 62))
        with pytest.raises(sp.Closed):
            liar.req.receive()
    assert rpc.submit(Batch(pb).client("ann", fleet.keys["ann"]).request()).stored_series == 1


def test_a_message_just_under_4_mib_is_read(rpc):
    assert code_of(rpc, "/nothing", b"x" * (4 * MIB - 65536)) == "UNIMPLEMENTED"


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\n\r\n", b"\0SP\1\0\x30\0\0", b"\0SP\0\0\x21\0\0", b"\0"])
def test_what_is_not_a_requester_is_turned_away(fleet, pb, rpc, hello):
    with socket.create_connection(("127.0.0.1", fleet.ports["ingest"]), timeout=30) as stranger:
        stranger.sendall(hello)
        if len(hello) < 8:
            stranger.shutdown(socket.SHUT_WR)
        try:
            while stranger.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert rpc.submit(Batch(pb).client("ann", fleet.keys["ann"]).request()).stored_series == 1


def test_a_request_without_an_id_does_not_disturb_others(fleet, pb, rpc):
    with fleet.rpc() as odd:
        odd.req.send(b"\x00\x00\x00\x01" * 50)  # a trace that never ends: hops without the high bit
        odd.req.send(b"xy")
    assert rpc.submit(Batch(pb).client("ann", fleet.keys["ann"]).request()).stored_series == 1


def test_many_connections_are_served_one_after_the_other(fleet, pb):
    connections = [fleet.rpc() for _ in range(60)]
    try:
        for connection in connections:
            assert connection.submit(Batch(pb).client("ann", fleet.keys["ann"]).request()).stored_series == 1
    finally:
        for connection in connections:
            connection.close()


# --- limits of a batch ---

def test_a_body_that_is_no_message_is_an_invalid_argument(rpc):
    assert submit_code(rpc, b"\xff\xff") == "INVALID_ARGUMENT"


def test_a_batch_that_is_no_message_is_an_invalid_argument(rpc, pb):
    assert submit_code(rpc, pb.ingest.SubmitRequest(batch=b"\xff\xff", credentials=["x"])) == "INVALID_ARGUMENT"


def series_batch(pb, fleet, count):
    batch = pb.ingest.Batch(agent_id="py-agent", boot_id=43, number=count)
    at = now_ms()
    for i in range(count):
        batch.clients.add(client_id="ann", time_unix_ms=[at - count + i], bytes_sent=[i])
    return pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[fleet.keys["ann"]])


def test_10000_series_are_stored_and_10001_are_refused(fleet, pb, rpc):
    assert rpc.submit(series_batch(pb, fleet, 10000), compress=True).stored_series == 10000
    assert submit_code(rpc, series_batch(pb, fleet, 10001)) == "INVALID_ARGUMENT"


def test_10000_samples_are_stored_and_10001_are_refused(fleet, pb, rpc):
    at = now_ms()
    for count in (10000, 10001):
        request = Batch(pb).client("cat", fleet.keys["cat"], [at - 20000 + i for i in range(count)],
                                   bytes_sent=[i for i in range(count)]).request()
        if count == 10000:
            assert rpc.submit(request, compress=True).stored_samples == 10000
        else:
            assert "10000" in only_rejection(rpc, pb, request, "INVALID_ARGUMENT")


@pytest.mark.parametrize("client_id", ["x" * 129, "", "a b", "a/b", "é"])
def test_a_bad_client_id_is_refused(fleet, pb, rpc, client_id):
    try:
        reason = only_rejection(rpc, pb, Batch(pb).client(client_id, fleet.keys["ann"]).request(), "INVALID_ARGUMENT")
        assert "client_id" in reason
    except AssertionError:  # it is nobody's id either
        only_rejection(rpc, pb, Batch(pb).client(client_id, fleet.keys["ann"]).request(), "UNAUTHENTICATED")


@pytest.mark.parametrize("agent_id", ["x" * 129, "", "a b"])
def test_a_bad_agent_id_is_refused(fleet, pb, rpc, agent_id):
    batch = Batch(pb).client("ann", fleet.keys["ann"])
    batch.batch.agent_id = agent_id
    assert submit_code(rpc, batch.request()) == "INVALID_ARGUMENT"


def test_a_name_of_256_bytes_is_stored_and_257_are_refused(fleet, pb, rpc):
    name = "é" * 128
    request = Batch(pb).headend("h2", fleet.tokens["h2"], name=name, cpu_usage=[1]).request()
    assert rpc.submit(request).stored_series == 1
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 1, headend_id="h2", name=name)
    only_rejection(rpc, pb, Batch(pb).headend("h2", fleet.tokens["h2"], name=name + "x", cpu_usage=[1]).request(),
                   "INVALID_ARGUMENT")


def test_bad_utf8_is_refused(fleet, pb, rpc):
    request = Batch(pb).headend("h2", fleet.tokens["h2"], name="~~", cpu_usage=[1]).request()
    raw = request.SerializeToString()
    assert raw.count(b"~~") == 1
    only_rejection(rpc, pb, raw.replace(b"~~", b"\xc3\x28"), "INVALID_ARGUMENT")
    only_rejection(rpc, pb, raw.replace(b"~~", b"a\0"), "INVALID_ARGUMENT")


def raw_series(client_id, times, number, values):
    return wire.field_bytes(1, client_id.encode()) + wire.packed_sint64(3, times) + wire.packed_sint64(number, values)


@pytest.mark.parametrize("values, reason", [
    ([-1, 0], "bytes_sent"),
    ([5, -6], "bytes_sent"),
    ([MAX, 1], "bytes_sent"),
    ([-(2**63), 0], "bytes_sent"),
    ([MAX, MAX], "bytes_sent"),
], ids=["negative", "negative by delta", "over the maximum", "least", "overflow"])
def test_counters_outside_their_range_are_refused(fleet, pb, rpc, values, reason):
    batch = Batch(pb)
    batch.raw = wire.field_bytes(4, raw_series("ann", [now_ms(), 1], 4, values))
    batch.credentials = [fleet.keys["ann"]]
    assert reason in only_rejection(rpc, pb, batch.request(), "INVALID_ARGUMENT")


@pytest.mark.parametrize("times", [[-1], [0, -1], [MAX, 1], [1, MAX]])
def test_times_outside_their_range_are_refused(fleet, pb, rpc, times):
    batch = Batch(pb)
    batch.raw = wire.field_bytes(4, raw_series("ann", times, 4, [1] * len(times)))
    batch.credentials = [fleet.keys["ann"]]
    assert "time_unix_ms" in only_rejection(rpc, pb, batch.request(), "INVALID_ARGUMENT")


def test_samples_up_to_5_minutes_ahead_are_stored_and_later_ones_refused(fleet, pb, rpc):
    ok = Batch(pb).client("dan", fleet.keys["dan"], [now_ms() + 290000]).request()
    assert rpc.submit(ok).stored_series == 1
    late = Batch(pb).client("dan", fleet.keys["dan"], [now_ms() + 360000]).request()
    assert "future" in only_rejection(rpc, pb, late, "INVALID_ARGUMENT")


def test_a_series_without_samples_is_refused(fleet, pb, rpc):
    batch = Batch(pb)
    batch.batch.clients.add(client_id="ann")
    batch.credentials = [fleet.keys["ann"]]
    assert "time_unix_ms" in only_rejection(rpc, pb, batch.request(), "INVALID_ARGUMENT")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e19])
def test_gauges_outside_their_range_are_refused(fleet, pb, rpc, value):
    request = Batch(pb).headend("h2", fleet.tokens["h2"], memory_usage=[value]).request()
    assert "memory_usage" in only_rejection(rpc, pb, request, "INVALID_ARGUMENT")


def test_a_few_unknown_fields_are_ignored_and_many_are_refused(fleet, pb, rpc):
    for count, allowed in ((16, True), (17, False)):
        batch = Batch(pb).client("ann", fleet.keys["ann"])
        batch.raw = wire.field_varint(99, 1) * count
        if allowed:
            assert rpc.submit(batch.request()).stored_series == 1
        else:
            assert submit_code(rpc, batch.request()) == "INVALID_ARGUMENT"


def test_an_empty_batch_stores_nothing(fleet, pb, rpc):
    request = Batch(pb).request()
    request.credentials.append(fleet.keys["ann"])
    try:
        assert rpc.submit(request).stored_series == 0
    except sp.RpcError as error:
        assert error.code == "INVALID_ARGUMENT"


def test_a_credential_that_is_too_long_is_refused(fleet, pb, rpc):
    only_rejection(rpc, pb, Batch(pb).client("ann", "k" * 8192).request(), "UNAUTHENTICATED")
    reason = only_rejection(rpc, pb, Batch(pb).client("ann", "k" * 8193).request(), "UNAUTHENTICATED")
    assert reason == "credential: over 8192 bytes"


@pytest.mark.parametrize("text", ["'; DROP TABLE clients; --", '" OR 1=1 --', "a\\'; --"])
def test_sql_in_strings_is_only_text(fleet, pb, rpc, text):
    with fleet.rpc(bearer=fleet.admin_token) as admin:
        for call, message in (("AddClient", pb.registry.AddClientRequest(client_id=text)),
                              ("AddHeadend", pb.registry.AddHeadendRequest(headend_id=text)),
                              ("AddCluster", pb.registry.AddClusterRequest(cluster_id=text)),
                              ("IssueHeadendToken", pb.registry.IssueHeadendTokenRequest(headend_id=text)),
                              ("RevokeClient", pb.registry.ClientId(client_id=text))):
            code = code_of(admin, f"/tobogganing.v1.Registry/{call}", message.SerializeToString())
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND"), (call, code)
        cluster = admin.call("/tobogganing.v1.Registry/AddCluster",
                             pb.registry.AddClusterRequest(name=text, region=text, datacenter=text),
                             pb.registry.AddClusterResponse).cluster
        listed = admin.call("/tobogganing.v1.Registry/ListClusters", pb.registry.ListRequest(page_size=10000),
                            pb.registry.ListClustersResponse)
        assert (text, text) in [(c.name, c.region) for c in listed.clusters if c.cluster_id == cluster.cluster_id]
        page = admin.call("/tobogganing.v1.Registry/ListClients", pb.registry.ListRequest(page_size=10000),
                          pb.registry.ListClientsResponse)
        assert {"ann", "ben"} <= {client.client_id for client in page.clients}


# --- snapshots and the bus, as any follower sees them ---

def test_snapshot_pages_hold_every_row_once(fleet, pb, rpc):
    rpc.submit(Batch(pb).client("ann", fleet.keys["ann"]).client("ben", fleet.keys["ben"]).headend(
        "h1", fleet.tokens["h1"], cpu_usage=[1]).request())
    with fleet.rpc(bearer=fleet.cluster_token) as follower:
        ids, cursor, epochs = [], 0, set()
        for _ in range(1000):
            page = follower.call("/tobogganing.v1.Bus/Snapshot", pb.bus.SnapshotRequest(cursor=cursor, max_rows=1),
                                 pb.bus.SnapshotResponse)
            assert len(page.clients) + len(page.headends) <= 1
            ids += [row.client_id for row in page.clients] + [row.headend_id for row in page.headends]
            epochs.add((page.instance, page.epoch))
            cursor = page.next_cursor
            if cursor == 0:
                break
        assert cursor == 0 and len(epochs) == 1
        assert len(ids) == len(set(ids)) and {"ann", "ben", "h1"} <= set(ids)
        assert len(page.last_sequences) == 64 and page.manager.clients >= 5
        assert code_of(follower, "/tobogganing.v1.Bus/Snapshot",
                       pb.bus.SnapshotRequest(max_rows=10001).SerializeToString()) == "INVALID_ARGUMENT"


def test_the_bus_carries_rows_in_sequence_and_a_heartbeat(fleet, pb, rpc):
    with sp.SpSocket(fleet.bus_url, sp.SUB, timeout=30) as bus:
        assert bus.peer == sp.PUB
        heartbeat, rows = None, {}
        deadline = time.monotonic() + 30
        while (heartbeat is None or "ann" not in rows) and time.monotonic() < deadline:
            rpc.submit(Batch(pb).client("ann", fleet.keys["ann"], bytes_sent=[31337]).request())
            raw = bus.receive()
            message = pb.bus.BusMessage.FromString(raw)
            assert raw[0] == 0x08 and raw[1] == message.topic  # topic first: subscriptions are prefixes
            assert message.instance and message.epoch
            if message.topic == 127:
                heartbeat = message.heartbeat
            else:
                assert 1 <= message.topic <= 64 and message.sequence > 0
                rows.update({row.client_id: (message, row) for row in message.clients})
        assert len(heartbeat.last_sequences) == 64 and heartbeat.manager.clients >= 5
        message, row = rows["ann"]
        assert row.bytes_sent == 31337 and row.present & 1 and message.HasField("position")
