"""Several ingestd on one PostgreSQL: what one changes the others know; and a database that goes away and comes back."""
import contextlib
import hashlib
import os
import secrets
import select
import signal
import socket
import statistics
import subprocess
import threading
import time

import pytest

import sp
from harness import DEADLINE, sanitized, set_option, wait_until
from peers import REGISTRY, Pair, Peer

KNOWN_WITHIN_S = 1.0  # what the issue promises; a sanitizer makes everything slower
IMPORTED, CHUNK = 20000, 5000


def known_within():
    return KNOWN_WITHIN_S * (4 if sanitized() else 1)


def unavailable(function, *arguments):
    with pytest.raises(sp.RpcError) as caught:
        function(*arguments)
    assert caught.value.code == "UNAVAILABLE", caught.value
    assert caught.value.response.retry_after_ms > 0
    return caught.value


# --- what one changes, the other knows ---

def test_both_share_one_schema_and_one_set_of_signing_keys(pair):
    assert pair.a.health().registry == pair.b.health().registry == "postgresql"
    assert pair.cluster.registry.execute("SELECT count(*) FROM signing_keys WHERE expires_unix_ms IS NULL") == [["1"]]
    pair.a.call("AddHeadend", pair.pb.registry.AddHeadendRequest(headend_id="shared"), pair.pb.registry.AddHeadendResponse)
    wait_until(lambda: pair.b.accepts("shared", pair.a.headend_token("shared"), "headends"), "a's token opens b")
    assert pair.a.accepts("shared", pair.b.headend_token("shared"), "headends")


def test_what_one_changes_the_other_knows_within_a_second(pair):
    took = {}

    def known(what, condition):
        start = time.monotonic()
        wait_until(condition, what, timeout=10)
        took.setdefault(what, []).append(time.monotonic() - start)

    for i in range(10):
        a, b = (pair.a, pair.b) if i % 2 else (pair.b, pair.a)
        name = f"known-{i}"
        key = a.add_client(name)
        known("added", lambda: b.accepts(name, key))
        newer = a.rotate(name, grace_s=3600)
        known("rotated", lambda: b.accepts(name, newer))
        assert b.accepts(name, key), "the previous key during the overlap"
        a.client("RevokePreviousKey", name)
        known("overlap ended", lambda: not b.accepts(name, key))
        newest = a.rotate(name)
        known("rotated at once", lambda: not b.accepts(name, newer))
        assert b.accepts(name, newest)
        a.client("RevokeClient", name)
        assert not a.accepts(name, newest), "refused by the one that revoked it, on the very next request"
        known("revoked", lambda: not b.accepts(name, newest))
        a.client("DeleteClient", name, pair.pb.registry.DeleteResponse)
        again = b.add_client(name)
        known("added again", lambda: a.accepts(name, again))
        b.client("DeleteClient", name, pair.pb.registry.DeleteResponse)
        known("deleted", lambda: not a.accepts(name, again))
    every = [seconds for measured in took.values() for seconds in measured]
    for what, measured in took.items():
        print(f"{what}: median {statistics.median(measured) * 1000:.0f} ms, longest {max(measured) * 1000:.0f} ms")
    assert max(every) < known_within()
    assert statistics.median(every) < known_within() / 2, "notifications are not heard: these are polls"


def test_new_labels_and_deletions_reach_the_exporters_through_the_other(pair):
    cluster = pair.cluster
    key = pair.a.add_client("labelled", name="before", type="docker")
    wait_until(lambda: pair.b.accepts("labelled", key, value=41), "known")
    cluster.wait_value("tobogganing_client_bytes_sent", 41, client_id="labelled", name="before", type="docker")
    pair.a.call("UpdateClient", pair.pb.registry.UpdateClientRequest(client_id="labelled", name="after", type="mobile",
                                                                     update_mask=["name", "type"]), pair.pb.registry.Client)
    cluster.wait_value("tobogganing_client_bytes_sent", 41, client_id="labelled", name="after", type="mobile")
    pair.a.client("DeleteClient", "labelled", pair.pb.registry.DeleteResponse)
    wait_until(lambda: not cluster.scrape().series("tobogganing_client_bytes_sent", client_id="labelled"), "it is gone")


def test_revoked_headends_and_clusters_are_refused_by_the_other(pair):
    registry = pair.pb.registry
    pair.a.call("AddCluster", registry.AddClusterRequest(cluster_id="k1"), registry.AddClusterResponse)
    for name in ("of-k1", "alone"):
        pair.a.call("AddHeadend", registry.AddHeadendRequest(headend_id=name, cluster_id="k1" if name == "of-k1" else ""),
                    registry.AddHeadendResponse)
    tokens = {name: pair.a.headend_token(name) for name in ("of-k1", "alone")}
    for name, token in tokens.items():
        wait_until(lambda n=name, t=token: pair.b.accepts(n, t, "headends"), "known")
    pair.a.call("RevokeCluster", registry.ClusterId(cluster_id="k1"), registry.Cluster)
    start = time.monotonic()
    wait_until(lambda: not pair.b.accepts("of-k1", tokens["of-k1"], "headends"), "the cluster's headend is refused")
    assert pair.b.accepts("alone", tokens["alone"], "headends")
    pair.a.call("RevokeHeadend", registry.HeadendId(headend_id="alone"), registry.Headend)
    wait_until(lambda: not pair.b.accepts("alone", tokens["alone"], "headends"), "the headend is refused")
    assert time.monotonic() - start < 2 * known_within()


def test_changes_through_both_at_once_lose_nothing(pair):
    each, failures, keys = 60, [], {}

    def add(peer, letter):
        own = Peer(pair.cluster, peer.daemon)
        try:
            for i in range(each):
                keys[f"race-{letter}-{i}"] = own.add_client(f"race-{letter}-{i}")
                try:
                    own.add_client(f"race-both-{i}")
                except sp.RpcError as error:
                    assert error.code == "ALREADY_EXISTS", error
                    failures.append(i)
        finally:
            own.close()

    threads = [threading.Thread(target=add, args=(peer, letter)) for peer, letter in zip(pair.peers, "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(failures) == list(range(each)), "each id was taken once"
    assert len(keys) == 2 * each
    for name, key in keys.items():
        for peer in pair.peers:
            wait_until(lambda p=peer, n=name, k=key: p.accepts(n, k), f"{name} is known", timeout=5)


# --- the database goes away ---

@pytest.fixture
def away(server, pair):
    """The database, stopped; it is there again afterwards."""
    @contextlib.contextmanager
    def stopped(mode="fast"):
        server.stop(mode)
        try:
            yield
        finally:
            server.restart()
    yield stopped
    for peer in pair.peers:
        wait_until(lambda p=peer: not p.health().registry_away, "the database is back")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_without_the_database_reports_go_on_and_changes_wait(pair, away, mode):
    name = f"away-{mode}"
    key = pair.a.add_client(name)
    wait_until(lambda: pair.b.accepts(name, key), "known")
    with away(mode):
        for peer in pair.peers:
            wait_until(lambda p=peer: p.health().registry_away, "health says so", timeout=10)
            assert peer.health().status == pair.pb.health.HealthCheckResponse.STATUS_SERVING
            assert peer.accepts(name, key) and not peer.accepts(name, key[:-1] + "!"), "credentials are in memory"
            unavailable(peer.add_client, "meanwhile")
            unavailable(peer.client, "RevokeClient", name)
            unavailable(peer.list_clients)
            assert "event=registry_away" in peer.daemon.log()
        by_http = pair.cluster.post("/api/v1/clients/register", pair.cluster.admin_token,
                                    {"name": "x", "type": "native", "public_key": "k"})
        assert by_http.status_code == 503 and int(by_http.headers["Retry-After"]) >= 1, by_http.text
        assert pair.cluster.post_client(name, key, {"bytes_sent": 5}).status_code == 200
        assert pair.cluster.ctl_json("health")["registry_away"] is True
    for peer in pair.peers:
        wait_until(lambda p=peer: not p.health().registry_away, "the database is back", timeout=10)
        assert "event=registry_back" in peer.daemon.log()
    pair.a.client("RevokeClient", name)
    wait_until(lambda: not pair.b.accepts(name, key), "refused", timeout=known_within())
    assert not pair.a.list_clients().next_page


class Proxy:
    """Between one ingestd and the database: the network that fails."""

    def __init__(self, port):
        self.to, self.frozen, self.pairs = port, False, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.stopping:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            self.pairs.append((near, far))
            threading.Thread(target=self._forward, args=(near, far), daemon=True).start()

    def _forward(self, near, far):
        try:
            while True:
                for ready in select.select([near, far], [], [], 0.05)[0]:
                    while self.frozen:
                        time.sleep(0.01)
                    data = ready.recv(65536)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            near.close()
            far.close()

    def freeze(self):
        """Nothing passes any more, and nobody is told."""
        self.frozen = True

    def thaw(self):
        self.frozen = False

    def cut(self):
        """The connections that there are end."""
        pairs, self.pairs = self.pairs, []
        for one in (side for sides in pairs for side in sides):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.stopping = True
        self.listener.close()
        self.thaw()
        self.cut()


@pytest.fixture(scope="module")
def apart(make_cluster, server):
    """Two ingestd; b reaches the database through a proxy."""
    cluster = make_cluster(start=False, registry=server)
    other = cluster.add_ingestd()
    proxy = Proxy(server.port)
    set_option(other, "--registry", f"postgresql://tobogganing@127.0.0.1:{proxy.port}/{cluster.registry.database}")
    for daemon in cluster.ingestds:
        daemon.state_dir.mkdir(exist_ok=True)
        daemon.start()
    both = Pair(cluster)
    both.proxy = proxy
    yield both
    both.close()
    proxy.close()


def test_what_changed_while_one_was_cut_off_it_knows_after(apart):
    kept, revoked, deleted = (apart.a.add_client(name) for name in ("kept", "revoked", "deleted"))
    wait_until(lambda: apart.b.accepts("deleted", deleted), "known")
    apart.proxy.freeze()  # what is committed from now on, b does not hear of
    apart.a.client("RevokeClient", "revoked")
    apart.a.client("DeleteClient", "deleted", apart.pb.registry.DeleteResponse)
    added = apart.a.add_client("added")
    newer = apart.a.rotate("kept")
    assert apart.b.accepts("revoked", revoked) and apart.b.accepts("kept", kept), "b can't know"
    apart.proxy.cut()
    wait_until(lambda: apart.b.health().registry_away, "b notices", timeout=30)
    start = time.monotonic()
    apart.proxy.thaw()
    wait_until(lambda: not apart.b.accepts("revoked", revoked), "b knows", timeout=30)
    print(f"known {(time.monotonic() - start) * 1000:.0f} ms after the network is back")
    wait_until(lambda: apart.b.accepts("added", added), "added", timeout=5)
    wait_until(lambda: apart.b.accepts("kept", newer) and not apart.b.accepts("kept", kept), "rotated", timeout=5)
    wait_until(lambda: not apart.b.accepts("deleted", deleted), "deleted", timeout=5)
    wait_until(lambda: not apart.b.health().registry_away, "b is back", timeout=10)


def test_a_network_that_swallows_everything_is_noticed(apart):
    key = apart.b.add_client("swallowed")
    apart.proxy.freeze()
    start = time.monotonic()
    wait_until(lambda: apart.b.health().registry_away, "b notices", timeout=30)
    print(f"noticed after {time.monotonic() - start:.1f} s")
    assert apart.b.accepts("swallowed", key)
    unavailable(apart.b.add_client, "meanwhile")
    apart.proxy.cut()
    apart.proxy.thaw()
    wait_until(lambda: not apart.b.health().registry_away, "b is back", timeout=30)
    apart.b.client("RevokeClient", "swallowed")
    assert not apart.b.accepts("swallowed", key)


def test_a_change_by_sql_without_a_notification_is_found_by_the_poll(apart):
    key = apart.a.add_client("by-sql")
    wait_until(lambda: apart.b.accepts("by-sql", key), "known")
    apart.cluster.registry.execute(
        "BEGIN; UPDATE registry_state SET change = change + 1;"
        "UPDATE clients SET revoked_unix_ms = 1, change = (SELECT change FROM registry_state) WHERE id = 'by-sql'; COMMIT")
    for peer in apart.peers:
        wait_until(lambda p=peer: not p.accepts("by-sql", key), "the poll finds it", timeout=5 * known_within())


def test_a_database_that_lost_its_last_changes_is_read_anew(apart):
    """A standby that lags behind becomes the primary: another change has the number that b knows."""
    key, lost = apart.b.add_client("stays-bad"), None
    wait_until(lambda: apart.a.accepts("stays-bad", key), "known")
    apart.b.add_client("lost")
    apart.proxy.freeze()
    apart.proxy.cut()
    wait_until(lambda: apart.b.health().registry_away, "b notices", timeout=30)
    apart.cluster.registry.execute(
        "BEGIN; DELETE FROM clients WHERE id = 'lost';"
        "UPDATE clients SET revoked_unix_ms = 1, change = (SELECT change FROM registry_state) WHERE id = 'stays-bad'; COMMIT")
    apart.proxy.thaw()
    wait_until(lambda: not apart.b.health().registry_away, "b is back", timeout=30)
    wait_until(lambda: not apart.b.accepts("stays-bad", key), "b has read everything", timeout=5)


# --- all or nothing ---

def import_all(cluster, url, names, answered):
    """As tobogganctl does it: chunks, and the last one commits."""
    registry = cluster.pb.registry
    rpc = cluster.rpc(bearer=cluster.admin_token, url=url)
    try:
        import_id = secrets.randbits(63) | 1
        for sequence, start in enumerate(range(0, len(names), CHUNK), 1):
            request = registry.ImportClientsRequest(import_id=import_id, sequence=sequence,
                                                    commit=start + CHUNK >= len(names))
            for name in names[start:start + CHUNK]:
                request.clients.add(client_id=name, key_sha256=hashlib.sha256(name.encode()).digest())
            answered.append(rpc.call(REGISTRY + "ImportClients", request, registry.ImportClientsResponse))
    finally:
        rpc.close()


def registered(cluster, start):
    return int(cluster.registry.execute(f"SELECT count(*) FROM clients WHERE id LIKE '{start}%'")[0][0])


def test_a_kill_in_the_middle_of_an_import_leaves_all_or_nothing(make_cluster, server):
    cluster = make_cluster(start=False, registry=server)
    ingestd = cluster.ingestd
    cluster.state_dir.mkdir()
    ingestd.start()
    start, answers = time.monotonic(), []
    import_all(cluster, cluster.ingest_url, [f"first-{i:05}" for i in range(IMPORTED)], answers)
    whole = time.monotonic() - start
    assert answers[-1].added == IMPORTED == registered(cluster, "first-")
    print(f"{IMPORTED} clients in {whole:.2f} s")
    found = set()
    for number in range(8):
        names, answers = [f"kill{number}-{i:05}" for i in range(IMPORTED)], []

        def run(names=names, answers=answers):
            with contextlib.suppress(sp.Closed, sp.RpcError, OSError):
                import_all(cluster, cluster.ingest_url, names, answers)

        importer = threading.Thread(target=run)
        importer.start()
        wait_until(lambda a=answers: len(a) >= IMPORTED // CHUNK - 1, "only the commit is left", timeout=60)
        time.sleep(whole * number / 8)  # the moment is what the test is about
        ingestd.kill()
        importer.join(DEADLINE)
        ingestd.start()
        count = registered(cluster, f"kill{number}-")
        assert count in (0, IMPORTED), f"{count} of {IMPORTED}"
        assert count == IMPORTED or len(answers) < IMPORTED // CHUNK, "answered, and lost"
        with cluster.rpc(bearer=cluster.admin_token) as rpc:
            health = rpc.call("/tobogganing.v1.Health/Check", cluster.pb.health.HealthCheckRequest(),
                              cluster.pb.health.HealthCheckResponse)
            assert health.clients == registered(cluster, "")
        assert cluster.registry.execute("SELECT count(*) FROM clients c LEFT JOIN registry_state s ON c.change <= s.change "
                                        "WHERE s.id IS NULL") == [["0"]]
        found.add(count)
    print(f"found: {sorted(found)}")


def test_a_process_that_hangs_in_a_change_does_not_stop_the_others_for_ever(pair, server):
    """Somebody holds the registry's row; after a while the database ends that."""
    name = pair.cluster.registry.database
    holder = subprocess.Popen(["/usr/lib/postgresql/15/bin/psql", "-X", "-q", server.url(name)], stdin=subprocess.PIPE,
                              env={**os.environ, "PGPASSWORD": server.password}, text=True)
    holder.stdin.write("SET idle_in_transaction_session_timeout = 10000; BEGIN; UPDATE registry_state SET change = change;\n")
    holder.stdin.flush()
    wait_until(lambda: pair.cluster.registry.execute("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'"),
               "it holds the row")
    unavailable(pair.a.add_client, "held")
    wait_until(lambda: _can_add(pair.a, "held"), "changes work again", timeout=30)
    holder.stdin.close()
    holder.wait(DEADLINE)


def _can_add(peer, name):
    try:
        peer.add_client(name)
        return True
    except sp.RpcError as error:
        assert error.code == "UNAVAILABLE", error
        return False


def test_a_hanging_ingestd_lets_go_of_the_registry(make_cluster, server):
    """SIGSTOP in the middle of an import: the database ends its transaction, and others can change again."""
    cluster = make_cluster(start=False, registry=server)
    cluster.add_ingestd()
    for daemon in cluster.ingestds:
        daemon.state_dir.mkdir(exist_ok=True)
        daemon.start()
    both = Pair(cluster)
    answers = []

    def run():
        with contextlib.suppress(sp.Closed, sp.RpcError, OSError):
            import_all(cluster, cluster.ingestd.url, [f"hang-{i:05}" for i in range(IMPORTED)], answers)

    importer = threading.Thread(target=run, daemon=True)
    importer.start()
    held = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL " \
           "AND pid <> pg_backend_pid()"
    wait_until(lambda: cluster.registry.execute(held), "the import is under way", timeout=30)
    cluster.ingestd.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: _can_add(both.b, "later"), "changes work again", timeout=60)
    finally:
        cluster.ingestd.process.send_signal(signal.SIGCONT)
    importer.join(DEADLINE)
    assert registered(cluster, "hang-") in (0, IMPORTED)
    wait_until(lambda: _can_add(both.a, "and-here"), "the one that hung is of use again", timeout=30)
    both.close()
