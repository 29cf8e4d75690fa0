"""A consumer of the journal receives every sample exactly once, in order for each source, through kills of either side."""
import contextlib
import random
import sqlite3
import sys
import time
from pathlib import Path

import sp
import wire
from harness import Daemon, clean_environment, wait_until
from torture.kill import SMALL_JOURNAL
from torture.writers import RpcWriter, all_acked

PROGRAM = Path(__file__).with_name("consumer_process.py")
BUS = "/tobogganing.v1.Bus/"
SENDERS, CLIENTS_OF_SENDER = 2, 5
CATCH_UP_S = 30.0
LEASE_MS = 1000


class Bus:
    """Bus.Commit and Bus.Replay by hand."""

    def __init__(self, cluster, name):
        self.cluster, self.name, self.pb = cluster, name, cluster.pb
        self.rpc = cluster.rpc(bearer=cluster.cluster_token)
        self.instance = self.rpc.call("/tobogganing.v1.Health/Check", self.pb.health.HealthCheckRequest(),
                                      self.pb.health.HealthCheckResponse).instance

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.rpc.close()

    def commit(self, holder, lease_ms=LEASE_MS, position=None, instance=None):
        request = self.pb.bus.CommitRequest(instance=instance or self.instance, consumer=self.name, holder=holder,
                                            lease_ms=lease_ms, position=position)
        return self.rpc.call(BUS + "Commit", request, self.pb.bus.CommitResponse)

    def replay(self, start=None, view="REPLAY_VIEW_RECORDS", instance=None, **fields):
        request = self.pb.bus.ReplayRequest(instance=instance or self.instance, view=getattr(self.pb.bus, view), **fields)
        if start is not None:
            getattr(request, "from").CopyFrom(start)
        return self.rpc.call(BUS + "Replay", request, self.pb.bus.ReplayResponse)

    def consumers(self):
        return self.rpc.call(BUS + "ListConsumers", self.pb.bus.ListConsumersRequest(), self.pb.bus.ListConsumersResponse)

    def forget(self, name=None):
        return self.rpc.call(BUS + "ForgetConsumer", self.pb.bus.ForgetConsumerRequest(consumer=name or self.name),
                             self.pb.bus.ForgetConsumerResponse)

    def refused(self, code, call, *arguments, **options):
        """The call is refused for this reason; returns the error."""
        try:
            answer = call(*arguments, **options)
        except sp.RpcError as error:
            assert error.code == code, error
            return error
        raise AssertionError(f"not {code}, but an answer: {answer}")


class Bed:
    def __init__(self, make_cluster, rng, ingestd_options=(), journal=SMALL_JOURNAL):
        self.rng = rng
        self.cluster = make_cluster(start=False, ingestd_options=(*journal, *ingestd_options))
        self.cluster.daemons = [self.cluster.ingestd]
        names = [f"source-{i}-{'x' * 100}" for i in range(SENDERS * CLIENTS_OF_SENDER)]
        keys = self.cluster.prepare(names)
        self.cluster.ingestd.start()
        self.senders = [RpcWriter(self.cluster, f"sender-{i}", {name: keys[name] for name in names[i::SENDERS]}, samples=10,
                                  pace_s=0.02, rng=random.Random(rng.random())) for i in range(SENDERS)]
        self.database = self.cluster.folder / "samples.db"

    def consumer(self, name):
        cluster = self.cluster
        argv = [sys.executable, "-B", str(PROGRAM), str(cluster.pb.folder), cluster.ingest_url, str(self.database), "test",
                str(LEASE_MS)]
        daemon = Daemon(name, argv, clean_environment(CLUSTER_TOKEN=cluster.cluster_token), cluster.folder / f"{name}.log",
                        ready_event="connected")
        cluster.daemons.append(daemon)
        return daemon

    def check_alive(self, daemons):
        for writer in self.senders:
            writer.check()
        for daemon in daemons:
            assert daemon.running(), f"{daemon.name} ended with {daemon.process.returncode}:\n{daemon.log()[-2000:]}"

    def samples(self):
        """{source: its values in the order of arrival}"""
        database = sqlite3.connect(self.database, timeout=60)
        rows = database.execute("SELECT source, value FROM samples ORDER BY row").fetchall()
        database.close()
        result = {}
        for source, value in rows:
            result.setdefault(source, []).append(value)
        return result

    def wait_caught_up(self, daemons):
        """Until everything acknowledged has arrived; then it is exactly that, in order."""
        acked = all_acked(self.senders)
        total = sum(acked.values())

        def arrived():
            self.check_alive(daemons)
            database = sqlite3.connect(self.database, timeout=60)
            count = database.execute("SELECT count(*) FROM samples").fetchone()[0]
            database.close()
            return count >= total
        wait_until(arrived, f"{total} samples have arrived", CATCH_UP_S)
        seen = self.samples()
        for source, value in acked.items():
            assert seen.get(source) == list(range(1, value + 1)), f"{source}: {first_break(seen.get(source, []), value)}"
        assert seen.keys() == acked.keys()
        return total


def first_break(values, last):
    for i, value in enumerate(values):
        if value != i + 1:
            return f"{value} where {i + 1} was due, of {last}"
    return f"{len(values)} of {last}"


def run(make_cluster, say, seed, cycles=8):
    """Two consumers share a name, so that one has the lease and the other waits for it; anybody may be killed."""
    rng = random.Random(seed)
    bed = Bed(make_cluster, rng)
    daemons = [bed.consumer("consumer-1").start(), bed.consumer("consumer-2").start()]
    killed = {"ingestd": 0, "consumer": 0}
    with contextlib.ExitStack() as running:
        for writer in bed.senders:
            running.enter_context(writer)
        for cycle in range(cycles):
            time.sleep(rng.uniform(0.05, 0.6))  # the random moment, not a wait for anything
            bed.check_alive(daemons)
            if rng.random() < 0.5:
                bed.cluster.ingestd.kill()
                bed.cluster.ingestd.start()
                killed["ingestd"] += 1
            else:
                victim = rng.choice(daemons)
                victim.kill()
                victim.start(wait=False)
                killed["consumer"] += 1
            if (cycle + 1) % 25 == 0:
                say(f"  {cycle + 1} of {cycles} kills")
    total = bed.wait_caught_up(daemons)
    # One that was killed for good leaves its lease to the other.
    survivor = rng.choice(daemons)
    for daemon in daemons:
        if daemon is not survivor:
            daemon.kill()
            bed.cluster.daemons.remove(daemon)
    bed.senders = [successor_of(writer) for writer in bed.senders]
    for writer in bed.senders:
        with writer:
            wait_until(lambda w=writer: w.error or w.batches > 20, "more is written")
    total = bed.wait_caught_up([survivor])
    survivor.kill()
    bed.cluster.daemons.remove(survivor)
    return {"cycles": cycles, **{f"kills_of_{name}": count for name, count in killed.items()}, "samples": total}


def successor_of(writer):
    """The same sources, as another start of the sender."""
    new = RpcWriter(writer.cluster, writer.name, writer.keys, writer.samples, writer.pace_s, writer.urls, writer.rng)
    new.value, new.time_ms = writer.value, writer.time_ms
    return new


def fill_journal(bed, segments):
    """Submits until the journal has begun so many new segments. Returns the last durable position."""
    writer = successor_of(bed.senders[0])
    writer.samples = 2000
    first = None
    try:
        while first is None or writer.last_durable[0] < first + segments:
            writer.step()
            first = first or writer.last_durable[0]
    finally:
        writer.disconnect()
    bed.senders[0].value, bed.senders[0].time_ms = writer.value, writer.time_ms
    return bed.cluster.pb.ingest.Position(segment=writer.last_durable[0], offset=writer.last_durable[1])


def submit_one(bed, value):
    """One sample; returns its place."""
    name, key = next(iter(bed.senders[1].keys.items()))
    pb = bed.cluster.pb.ingest
    batch = pb.Batch(agent_id="one", boot_id=5, number=value)
    batch.clients.add(client_id=name, time_unix_ms=wire.deltas([int(time.time() * 1000)]), bytes_sent=[value])
    with bed.cluster.rpc() as rpc:
        return rpc.submit(pb.SubmitRequest(batch=batch.SerializeToString(), credentials=[key])).durable
