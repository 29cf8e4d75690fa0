"""Bus loss: deltas to an exporter whose subscription is paused, cut and throttled. Afterwards its rows are ingestd's."""
import random
import re
import signal
import time

import wire
from harness import set_option
from torture.fleet import expected, health, snapshot, wait_shown
from torture.proxy import Proxy

SERIES = 1000  # of a batch
RESYNC_S = 60.0
THROTTLED_BYTES_PER_S = 200_000
RESYNCS = ("replay_complete", "snapshot_complete")  # events of the exporter


class Load:
    """Batches of random clients with random values, one after another."""

    def __init__(self, cluster, keys, rng):
        self.cluster, self.names, self.keys, self.rng, self.number = cluster, list(keys), keys, rng, 0

    def run(self, deltas):
        """Submits batches until so many rows have changed; returns how many did."""
        done = 0
        with self.cluster.rpc() as rpc:
            while done < deltas:
                names = self.rng.sample(self.names, min(SERIES, len(self.names)))
                answer = rpc.submit(self.make(names))
                assert answer.stored_series == len(names), answer
                done += len(names)
        return done

    def make(self, names):
        pb = self.cluster.pb.ingest
        self.number += 1
        batch, now, rng = pb.Batch(agent_id="load", boot_id=1, number=self.number), int(time.time() * 1000), self.rng
        times = wire.deltas([now])
        for name in names:
            # Some of the columns: others keep what they were.
            column = rng.choice(("bytes_received", "packets_sent", "packets_received", "connection_uptime_ms"))
            batch.clients.add(client_id=name, time_unix_ms=times, bytes_sent=[rng.getrandbits(50)],
                              **{column: [rng.getrandbits(40)]})
        return pb.SubmitRequest(batch=batch.SerializeToString(), credentials=[self.keys[name] for name in names])


class Bed:
    def __init__(self, make_cluster, proxy_of, clients):
        self.cluster = make_cluster(start=False)
        self.proxy = proxy_of(self.cluster.bus_url)
        set_option(self.cluster.exporter, "--bus", self.proxy.url)
        self.free = self.cluster.add_exporter()  # nothing disturbs this one
        self.keys = self.cluster.prepare([f"client-{i:06}" for i in range(clients)])


def events(exporter, event):
    """How long each took, milliseconds."""
    return [int(took) for took in re.findall(rf"event={event} .*took_ms=(\d+)", exporter.log())]


def paused(bed, load, deltas):
    """SIGSTOP: the exporter reads nothing at all."""
    bed.cluster.exporter.process.send_signal(signal.SIGSTOP)
    try:
        return load.run(deltas)
    finally:
        bed.cluster.exporter.process.send_signal(signal.SIGCONT)


def cut(bed, load, deltas):
    """The subscription's connection is cut, and comes back."""
    load.run(deltas // 10)  # in the midst of it
    bed.proxy.cut()
    try:
        return deltas // 10 + load.run(deltas - deltas // 10)
    finally:
        bed.proxy.restore()


def throttled(bed, load, deltas):
    """The subscription is slow: what does not fit in ingestd's queue for it is dropped."""
    bed.proxy.bytes_per_s = THROTTLED_BYTES_PER_S
    try:
        return load.run(deltas)
    finally:
        bed.proxy.bytes_per_s = None


def delete_some(bed, load, count):
    """Clients that are deleted while nobody listens have to go too."""
    for name in load.names[:count]:
        bed.cluster.ctl_ok("client", "delete", name)
    del load.names[:count]


def run(make_cluster, say, seed, deltas=1_000_000, clients=20_000, deletions=3):
    rng = random.Random(seed)
    result = {"deltas": 0}
    bed = Bed(make_cluster, Proxy, clients)
    with bed.proxy:
        bed.cluster.start()
        load = Load(bed.cluster, bed.keys, rng)
        result["deltas"] += load.run(clients)
        cases = {"paused": paused, "cut": cut, "throttled": throttled}
        for name, case in cases.items():
            started = time.monotonic()
            before = [len(events(bed.cluster.exporter, event)) for event in RESYNCS]
            passed = bed.proxy.passed
            result["deltas"] += case(bed, load, deltas // len(cases))
            load_s, resumed = time.monotonic() - started, time.monotonic()
            delete_some(bed, load, deletions)
            rows = expected(snapshot(bed.cluster))
            wait_shown(bed.cluster, bed.cluster.exporter, rows, RESYNC_S)
            resync_s = time.monotonic() - resumed
            wait_shown(bed.cluster, bed.free, rows, RESYNC_S)
            replays, snapshots = (events(bed.cluster.exporter, event)[n:] for event, n in zip(RESYNCS, before))
            say(f"  {name}: {load_s:.1f} s of load, {(bed.proxy.passed - passed) >> 10} KiB passed the bus, equal after "
                f"{resync_s:.2f} s; {len(replays)} replays {replays} ms, {len(snapshots)} snapshots {snapshots} ms")
            result.update({f"{name}_resync_s": round(resync_s, 2), f"{name}_replays_ms": replays,
                           f"{name}_snapshots_ms": snapshots})
    # The proxy is gone for good, and a restart finds everything by the other way round.
    set_option(bed.cluster.exporter, "--bus", bed.cluster.bus_url)
    bed.cluster.exporter.stop()
    bed.cluster.exporter.start()
    wait_shown(bed.cluster, bed.cluster.exporter, expected(snapshot(bed.cluster)), RESYNC_S)
    assert health(bed.cluster).reporting_clients == clients - deletions * len(cases)
    return {"clients": clients, **result}
