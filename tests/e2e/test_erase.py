"""tobogganctl client delete --erase: a client leaves registry, fleet, bus, exporter, checkpoints and journal."""
import json
import time

import pytest

import sp
import wire
from harness import wait_until
from peers import REGISTRY, Peer
from torture.consumer import Bus
from torture.consumer_process import samples_of

GONE, STAYS = "gone-client-7c1e", "stays-client-90af"
SAMPLES, BATCHES = 2000, 40
ERASED_RECORDS = 2 * BATCHES + 1  # one of them had nothing else


def submit_both(cluster, keys, number, clients=(GONE, STAYS), agent="relay"):
    """One batch with samples of both clients, as a relay sends it."""
    now = int(time.time() * 1000) - SAMPLES * 1000
    times = wire.deltas([now + i * 1000 for i in range(SAMPLES)])
    values = wire.deltas([number * 1_000_003 + i * 977 for i in range(SAMPLES)])
    pb = cluster.pb.ingest
    batch = pb.Batch(agent_id=agent, boot_id=5, number=number)
    for client_id in clients:
        batch.clients.append(pb.ClientSeries(client_id=client_id, time_unix_ms=times, bytes_sent=values))
    request = pb.SubmitRequest(batch=batch.SerializeToString(), credentials=[keys[name] for name in clients])
    with cluster.rpc() as rpc:
        answer = rpc.call("/tobogganing.v1.Ingest/Submit", request, pb.SubmitResponse)
    assert not answer.rejected, answer


@pytest.fixture(scope="module")
def bed(make_cluster):
    cluster = make_cluster(ingestd_options=("--journal-segment-bytes", "1MiB", "--checkpoint-interval", "1h"))
    keys = {name: cluster.add_client(name) for name in (GONE, STAYS)}
    submit_both(cluster, keys, 1, clients=(GONE,), agent="alone")
    for number in range(1, BATCHES + 1):
        submit_both(cluster, keys, number)
    cluster.ingestd.stop()  # makes a checkpoint that holds both
    cluster.ingestd.start()
    for number in range(BATCHES + 1, 2 * BATCHES + 1):
        submit_both(cluster, keys, number)
    cluster.wait_ready()
    cluster.wait_value("tobogganing_client_bytes_sent", 2 * BATCHES * 1_000_003 + (SAMPLES - 1) * 977, client_id=GONE)
    return cluster, keys


def journal_samples(cluster):
    """How many samples of each source the journal has."""
    counts, start = {}, None
    with Bus(cluster, "reader-of-the-test") as bus:
        while True:
            page = bus.replay(start)
            for source, _, _ in samples_of(cluster.pb, page):
                counts[source] = counts.get(source, 0) + 1
            start = page.next
            if (start.segment, start.offset) >= (page.end.segment, page.end.offset):
                return counts


def files_with(cluster, text):
    return {path.name: path.read_bytes().count(text.encode())
            for path in (cluster.state_dir / "journal").iterdir()
            if path.is_file() and text.encode() in path.read_bytes()}


def test_an_erased_client_is_gone_from_everywhere_and_nothing_else_is(bed):
    cluster, keys = bed
    before = journal_samples(cluster)
    assert before == {GONE: ERASED_RECORDS * SAMPLES, STAYS: 2 * BATCHES * SAMPLES}
    assert any(name.endswith(".ckpt") for name in files_with(cluster, GONE))
    report = json.loads(cluster.ctl_ok("client", "delete", GONE, "--erase", "--json"))
    assert report["done"] is True and report["client_id"] == GONE
    assert report["clients"] == 1 and report["fleet_rows"] == 1
    assert report["records"] == ERASED_RECORDS and report["samples"] == ERASED_RECORDS * SAMPLES
    assert report["segments_rewritten"] >= 2 and report["checkpoints"] >= 1
    # The journal: every sample of the other is there, and of this one only that it was removed.
    assert journal_samples(cluster) == {STAYS: 2 * BATCHES * SAMPLES}
    left = files_with(cluster, GONE)
    assert sum(left.values()) == 1 and all(name.endswith(".seg") for name in left), left
    lines = cluster.ctl_ok("journal", "inspect", str(cluster.state_dir / "journal"), "--records", "--json").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["kind"] for record in records].count("erased") == 1
    # The registry and the exposition.
    assert GONE not in cluster.ctl_ok("client", "list")
    wait_until(lambda: GONE not in cluster.get_metrics().text, "it left the exporter")
    assert cluster.post_client(GONE, keys[GONE], {"metrics": {}}).status_code == 401
    assert cluster.post_client(STAYS, keys[STAYS], {"metrics": {"bytes_sent": 5}}).status_code == 200
    assert cluster.ctl("journal", "verify", str(cluster.state_dir / "journal")).returncode == 0


def test_erasing_again_says_the_same_and_an_unknown_client_is_not_found(bed):
    cluster, _ = bed
    again = json.loads(cluster.ctl_ok("client", "delete", GONE, "--erase", "--json"))
    assert again["done"] is True and again["samples"] == ERASED_RECORDS * SAMPLES
    unknown = cluster.ctl("client", "delete", "never-was", "--erase")
    assert unknown.returncode == 1 and "NOT_FOUND" in unknown.stderr


def test_it_stays_erased_over_a_kill_and_the_rest_is_as_it_was(bed):
    cluster, keys = bed
    cluster.wait_value("tobogganing_client_bytes_sent", 5, client_id=STAYS)
    cluster.ingestd.kill()
    cluster.ingestd.start()
    cluster.wait_ready()
    cluster.wait_value("tobogganing_client_bytes_sent", 5, client_id=STAYS)
    assert GONE not in cluster.get_metrics().text
    assert sum(files_with(cluster, GONE).values()) == 1
    assert json.loads(cluster.ctl_ok("client", "delete", GONE, "--erase", "--json"))["done"] is True


def test_an_erasure_that_a_kill_interrupted_is_finished_after_the_restart(bed):
    cluster, keys = bed
    for attempt, delay in enumerate((0, 0.3, 0.6, 0.8)):
        name = f"interrupted-{attempt}"
        keys[name] = cluster.add_client(name)
        for number in range(1, 6):
            submit_both(cluster, keys, number, clients=(name, STAYS), agent=f"relay-{attempt}")
        with cluster.rpc(bearer=cluster.admin_token) as rpc:
            rpc.call(REGISTRY + "EraseClient", cluster.pb.registry.ClientId(client_id=name), cluster.pb.registry.Erasure)
        time.sleep(delay)  # not a wait: at which moment it is killed
        cluster.ingestd.kill()
        cluster.ingestd.start()
        wait_until(lambda n=name: json.loads(cluster.ctl_ok("client", "delete", n, "--erase", "--json"))["done"],
                   "the erasure is done")
        assert name not in journal_samples(cluster)
        assert not [file for file in files_with(cluster, name) if file.endswith(".ckpt")]
        assert not (cluster.state_dir / "journal" / "rewrite.unfinished").exists()
    cluster.wait_ready()
    assert cluster.ctl("journal", "verify", str(cluster.state_dir / "journal")).returncode == 0


def test_the_audit_log_says_who_erased_whom(bed):
    cluster, _ = bed
    entries = [entry for entry in cluster.ctl_json("audit", "--target", GONE) if entry["action"] == "client.erase"]
    assert entries and entries[0]["who"].startswith("admin ")


def test_who_is_registered_again_keeps_what_he_reports_since(bed):
    cluster, keys = bed
    for attempt in range(3):
        name = f"again-{attempt}"
        keys[name] = cluster.add_client(name)
        submit_both(cluster, keys, 1, clients=(name, STAYS), agent=f"first-{attempt}")
        with cluster.rpc(bearer=cluster.admin_token) as rpc:
            rpc.call(REGISTRY + "EraseClient", cluster.pb.registry.ClientId(client_id=name), cluster.pb.registry.Erasure)
        keys[name] = cluster.add_client(name)  # while the erasure goes on
        submit_both(cluster, keys, 1, clients=(name, STAYS), agent=f"second-{attempt}")
        wait_until(lambda n=name: f"event=erasure_done client_id={n} " in cluster.ingestd.log(), "it is erased")
        assert journal_samples(cluster)[name] == SAMPLES


def test_who_is_erased_again_while_the_first_erasure_goes_on_is_erased_twice_and_no_more(bed):
    cluster, keys = bed
    for name in ("twice", "twice", "marker"):
        keys[name] = cluster.add_client(name)
        submit_both(cluster, keys, 1, clients=(name, STAYS), agent=f"relay-of-{keys[name][-6:]}")
        with cluster.rpc(bearer=cluster.admin_token) as rpc:
            rpc.call(REGISTRY + "EraseClient", cluster.pb.registry.ClientId(client_id=name), cluster.pb.registry.Erasure)
        if name == "twice" and cluster.ingestd.log().count("event=client_erased client_id=twice") < 2:
            continue
        wait_until(lambda n=name: f"event=erasure_done client_id={n} " in cluster.ingestd.log(), f"{name} is erased")
    assert "twice" not in journal_samples(cluster)
    assert cluster.ingestd.log().count("event=erasure_done client_id=twice ") == 2


def test_erasures_are_carried_out_by_who_has_done_more_for_another_database(bed):
    cluster, keys = bed
    cluster.ingestd.stop()
    (cluster.state_dir / "erased").write_text("00000000ffffffff\n")
    cluster.ingestd.start()
    keys["anew"] = cluster.add_client("anew")
    submit_both(cluster, keys, 1, clients=("anew", STAYS), agent="relay-of-anew")
    report = json.loads(cluster.ctl_ok("client", "delete", "anew", "--erase", "--json"))
    assert report["samples"] == SAMPLES and "anew" not in journal_samples(cluster)


def test_the_old_row_of_who_was_registered_again_while_an_ingestd_was_away_goes_too(pair):
    """The one that was away never saw that the id was gone in between."""
    key = pair.a.add_client("back")
    wait_until(lambda: pair.b.accepts("back", key, value=77), "the other knows the client")
    pair.b.close()
    pair.b.daemon.stop()
    pair.a.client("EraseClient", "back", pair.pb.registry.Erasure)
    key = pair.a.add_client("back")
    pair.b.daemon.start()
    pair.peers[1] = pair.b = Peer(pair.cluster, pair.b.daemon)
    wait_until(lambda: "event=erasure_done client_id=back " in pair.b.daemon.log(), "it is erased there")
    request = pair.pb.reports.LastRequest(client_id="back", credential=key)
    with pytest.raises(sp.RpcError) as caught:
        pair.b.agent.call("/tobogganing.v1.Reports/Last", request, pair.pb.reports.LastReport)
    assert caught.value.code == "NOT_FOUND"
    wait_until(lambda: 'client_id="back"' not in pair.cluster.get_metrics().text, "it left the exporter")
    assert pair.b.accepts("back", key, value=78)
    pair.cluster.wait_value("tobogganing_client_bytes_sent", 78, client_id="back")
