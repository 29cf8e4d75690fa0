"""tobogganctl journal: what it tells of a journal's files, and a repair after which ingestd starts with everything that
could be read."""
import json
import shutil
import subprocess

import pytest

from harness import binary, wait_until

CLIENTS = [f"c{i}" for i in range(5)]
HEADER_BYTES = 40


@pytest.fixture(scope="module")
def cluster(make_cluster):
    """Stopped, with a report of every client in the journal and in no checkpoint; a copy of that is kept."""
    made = make_cluster()
    made.keys = {name: made.add_client(name) for name in CLIENTS}
    for value, name in enumerate(CLIENTS, 100):
        assert made.post_client(name, made.keys[name], {"metrics": {"bytes_sent": value}}).ok
    made.wait_value("tobogganing_client_bytes_sent", 104, client_id="c4")
    made.ingestd.kill()
    made.kept = made.folder / "kept"
    shutil.copytree(made.state_dir, made.kept)
    return made


@pytest.fixture
def fleet(cluster):
    """The cluster with its state as it was; whatever runs is stopped again."""
    shutil.rmtree(cluster.state_dir)
    shutil.copytree(cluster.kept, cluster.state_dir)
    yield cluster
    cluster.ingestd.stop()


def journal(fleet, name, *arguments, status=0):
    done = fleet.ctl("journal", name, *arguments, str(fleet.state_dir))
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done


def verified(fleet, status=0):
    return json.loads(journal(fleet, "verify", "--json", status=status).stdout)


def records(fleet):
    return [json.loads(line) for line in journal(fleet, "inspect", "--records", "--json").stdout.splitlines()]


def segment(fleet, number=1):
    return fleet.state_dir / "journal" / f"journal-{number:016x}.seg"


def checkpoints(fleet):
    return sorted((fleet.state_dir / "journal").glob("checkpoint-*.ckpt"), reverse=True)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def batches(fleet):
    return [record for record in records(fleet) if record["kind"] == "batch"]


def snapshot(fleet):
    """Every file of the journal, with its content."""
    folder = fleet.state_dir / "journal"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def values(fleet):
    """What ingestd has, by client."""
    with fleet.rpc(bearer=fleet.cluster_token) as bus:
        page = bus.call("/tobogganing.v1.Bus/Snapshot", fleet.pb.bus.SnapshotRequest(), fleet.pb.bus.SnapshotResponse)
    return {row.client_id: row.bytes_sent for row in page.clients}


def start_and_read(fleet):
    fleet.ingestd.start()
    return values(fleet)


ALL = {name: value for value, name in enumerate(CLIENTS, 100)}


def without(*names):
    return {name: value for name, value in ALL.items() if name not in names}


def test_a_good_journal_is_verified_and_told(fleet):
    report = verified(fleet)
    assert report["ok"] and not report["damages"] and report["records"] >= len(CLIENTS) and not report["in_use"]
    assert journal(fleet, "verify").stdout.startswith("ok: 1 segments")
    told = json.loads(journal(fleet, "inspect", "--json").stdout)
    (only,) = told["segments"]
    assert only["records"] == report["records"] and 0 < only["first_received_unix_ms"] <= only["last_received_unix_ms"]
    assert only["file"] == segment(fleet).name and told["end"] == {"segment": 1, "offset": only["end"]}
    assert segment(fleet).name in journal(fleet, "inspect").stdout
    found = batches(fleet)
    assert sum(record["samples"] for record in found) == len(CLIENTS)
    assert all(record["agent_id"] and record["number"] and record["received_unix_ms"] for record in found)
    lines = journal(fleet, "inspect", "--records").stdout.splitlines()
    assert len(lines) == report["records"] and f"agent={found[0]['agent_id']}" in "\n".join(lines)


def test_the_journals_own_folder_does_as_well(fleet):
    done = fleet.ctl("journal", "verify", str(fleet.state_dir / "journal"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["inspect", "verify", "repair"])
def test_a_folder_that_is_not_there_is_said(fleet, name):
    done = fleet.ctl("journal", name, "/nonexistent/state")
    assert done.returncode == 1 and "/nonexistent/state" in done.stderr and len(done.stderr.splitlines()) == 1


def test_while_ingestd_runs_it_can_be_looked_at_and_not_repaired(fleet):
    fleet.ingestd.start()
    for value in range(20):
        assert fleet.post_client("c0", fleet.keys["c0"], {"metrics": {"bytes_sent": value}}).ok
        report = verified(fleet)
        assert report["ok"] and report["in_use"]
    assert json.loads(journal(fleet, "inspect", "--json").stdout)["in_use"]
    before = snapshot(fleet).keys()
    done = journal(fleet, "repair", "--yes", status=1)
    assert "ingestd" in done.stderr
    assert snapshot(fleet).keys() == before
    assert values(fleet)["c0"] == 19


def test_what_a_crash_left_at_the_end_is_no_damage(fleet):
    report = verified(fleet)
    with open(segment(fleet), "r+b") as file:  # a record's first bytes that never were finished
        file.truncate(report["end"]["offset"])
        file.seek(report["end"]["offset"])
        file.write(b"\x20\0\0\0")
    report = verified(fleet)
    assert report["ok"] and report["torn_bytes"] > 0
    assert "nothing to repair" in journal(fleet, "repair", "--yes").stdout
    assert start_and_read(fleet) == ALL


def test_a_damaged_record_is_named_and_a_repair_loses_nothing_else(fleet):
    lost = batches(fleet)[1]
    flip(segment(fleet), lost["offset"] + 30)
    said = fleet.ingestd.start_fails()[1]
    assert f"{segment(fleet).name} at offset {lost['offset']}" in said and "tobogganctl journal repair" in said
    report = verified(fleet, status=1)
    (damage,) = report["damages"]
    assert damage["file"] == segment(fleet).name and damage["offset"] == lost["offset"] and damage["bytes"] > lost["bytes"]
    text = journal(fleet, "verify", status=1).stdout
    assert f"{segment(fleet)} at offset {lost['offset']}: " in text and "received between" in text

    before = snapshot(fleet)
    dry = journal(fleet, "repair", "--dry-run").stdout
    assert segment(fleet).name in dry and "lost:" in dry
    done = journal(fleet, "repair", status=2)  # nobody can be asked
    assert "--yes" in done.stderr
    assert snapshot(fleet) == before

    done = json.loads(journal(fleet, "repair", "--yes", "--json").stdout)
    assert done["repaired"] and done["steps"][0]["lost_bytes"] == damage["bytes"]
    kept = fleet.state_dir / "journal" / done["damaged_dir"] / segment(fleet).name
    assert kept.read_bytes() == before[segment(fleet).relative_to(fleet.state_dir / "journal")]
    assert verified(fleet)["ok"]
    assert "nothing to repair" in journal(fleet, "repair", "--yes").stdout
    assert [(r["offset"], r["bytes"]) for r in records(fleet) if r["kind"] == "lost"] == [
        (lost["offset"], damage["bytes"] - 16)]

    assert start_and_read(fleet) == without(CLIENTS[1])
    assert fleet.post_client("c1", fleet.keys["c1"], {"metrics": {"bytes_sent": 7}}).ok
    fleet.ingestd.kill()
    assert start_and_read(fleet) == {**ALL, "c1": 7}


def test_a_lost_header_loses_nothing(fleet):
    with open(segment(fleet), "r+b") as file:
        file.write(bytes(HEADER_BYTES))
    assert segment(fleet).name in fleet.ingestd.start_fails()[1]
    journal(fleet, "repair", "--yes")
    assert start_and_read(fleet) == ALL


def test_a_damaged_checkpoint_gives_way_to_what_was_before_it(fleet):
    for value in (1, 2):  # a checkpoint at each stop
        fleet.ingestd.start()
        assert fleet.post_client("c0", fleet.keys["c0"], {"metrics": {"bytes_sent": value}}).ok
        fleet.ingestd.stop()
    newest, before = checkpoints(fleet)
    told = json.loads(journal(fleet, "inspect", "--json").stdout)["checkpoints"]
    assert [row["file"] for row in told] == [newest.name, before.name]
    assert told[0]["clients"] == len(CLIENTS) and told[0]["created_unix_ms"] and told[0]["stored_samples"] == 7
    flip(newest, newest.stat().st_size // 2)
    said = fleet.ingestd.start_fails()[1]
    assert newest.name in said and "tobogganctl journal repair" in said
    assert verified(fleet, status=1)["damages"][0]["file"] == newest.name
    journal(fleet, "repair", "--yes")
    assert checkpoints(fleet) == [before]
    assert start_and_read(fleet) == {**ALL, "c0": 2}
    status = fleet.ctl_json("status")
    assert (status["stored_batches"], status["stored_samples"]) == (told[0]["stored_batches"], 7)


def test_a_damaged_checkpoint_that_is_the_only_one_keeps_what_can_be_read(fleet):
    fleet.ingestd.start()
    fleet.ingestd.stop()
    (only,) = checkpoints(fleet)
    segment(fleet).unlink()  # the journal before it is gone too
    flip(only, only.stat().st_size - 2 * 16 - 3)
    fleet.ingestd.start_fails()
    journal(fleet, "repair", "--yes")
    assert checkpoints(fleet) == [only]
    assert start_and_read(fleet).items() <= ALL.items()
    assert fleet.post_client("c3", fleet.keys["c3"], {"metrics": {"bytes_sent": 33}}).ok
    fleet.ingestd.kill()
    assert start_and_read(fleet)["c3"] == 33


def test_a_journal_that_is_lost_goes_on_behind_its_checkpoint(fleet):
    fleet.ingestd.start()
    fleet.ingestd.stop()
    segment(fleet).unlink()
    assert "tobogganctl journal repair" in fleet.ingestd.start_fails()[1]
    assert "damages" in journal(fleet, "verify", status=1).stdout
    journal(fleet, "repair", "--yes")
    assert verified(fleet)["ok"]
    assert start_and_read(fleet) == ALL
    assert fleet.post_client("c2", fleet.keys["c2"], {"metrics": {"bytes_sent": 22}}).ok
    fleet.ingestd.kill()
    assert start_and_read(fleet) == {**ALL, "c2": 22}
    wait_until(lambda: fleet.get_status(fleet.exporter_url + "/readyz") == 200, "the exporter has found it again")
    fleet.wait_value("tobogganing_client_bytes_sent", 22, client_id="c2")


def test_a_consumers_place_is_told_and_survives_a_repair(fleet):
    pb = fleet.pb
    fleet.ingestd.start()
    at = batches(fleet)[2]
    with fleet.rpc(bearer=fleet.cluster_token) as bus:
        instance = bus.call("/tobogganing.v1.Health/Check", pb.health.HealthCheckRequest(),
                            pb.health.HealthCheckResponse).instance
        bus.call("/tobogganing.v1.Bus/Commit",
                 pb.bus.CommitRequest(instance=instance, consumer="remote-write", holder=9, lease_ms=60000,
                                      position=pb.ingest.Position(segment=1, offset=at["offset"])), pb.bus.CommitResponse)
    env = {"CLUSTER_TOKEN": fleet.cluster_token}
    listed = fleet.ctl("consumer", "list", env=env)
    assert listed.returncode == 0 and "remote-write" in listed.stdout and "0000000000000009" in listed.stdout
    fleet.ingestd.kill()
    expected = [{"name": "remote-write", "segment": 1, "offset": at["offset"]}]
    assert json.loads(journal(fleet, "inspect", "--json").stdout)["consumers"] == expected
    before = batches(fleet)[1]["offset"]
    with open(segment(fleet), "r+b") as file:  # from before its place to behind it
        file.seek(before)
        file.write(bytes(at["offset"] + 16 - before))
    journal(fleet, "repair", "--yes")
    assert start_and_read(fleet) == without(CLIENTS[1], CLIENTS[2])
    with fleet.rpc(bearer=fleet.cluster_token) as bus:
        page = bus.call("/tobogganing.v1.Bus/Replay", pb.bus.ReplayRequest(
            instance=instance, view=pb.bus.REPLAY_VIEW_RECORDS,
            **{"from": pb.ingest.Position(segment=1, offset=at["offset"])}), pb.bus.ReplayResponse)
    samples = 0
    for record in page.records:
        message = pb.journal.Record.FromString(record.record)
        samples += sum(len(series.time_unix_ms) for series in pb.ingest.Batch.FromString(message.batch).clients)
    assert page.records[0].position.offset == at["offset"] and samples == 2
    assert fleet.ctl("consumer", "forget", "remote-write", env=env).returncode == 0
    assert fleet.ctl("consumer", "forget", "remote-write", env=env).returncode == 1
    assert json.loads(fleet.ctl("consumer", "list", "--json", env=env).stdout).get("consumers") == []


def test_a_person_is_asked(fleet):
    flip(segment(fleet), batches(fleet)[1]["offset"] + 30)
    for answer, repaired in (("n\n", False), ("y\n", True)):
        # script gives it a terminal.
        command = f"{binary('tobogganctl')} journal repair {fleet.state_dir}"
        done = subprocess.run(["script", "-qec", command, "/dev/null"], input=answer, capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0 and "Go on? [y/N]" in done.stdout, done.stdout
        assert ("repaired;" in done.stdout) == repaired
        assert verified(fleet, status=0 if repaired else 1)["ok"] == repaired
