"""Several ingestd and several exporters: sources report to either, one ingestd goes away and comes back, exporters restart,
and shards together show what one exporter shows."""
import random
import time

from harness import wait_until
from torture.fleet import differences, expected, shown, snapshot, wait_shown
from torture.rolling import union, wait_union
from torture.writers import RpcWriter, all_acked

CLIENTS, HEADENDS, SHARDS = 60, 4, 2


class Bed:
    """Two ingestd with one registry; an exporter of everything, one more, and one for each shard."""

    def __init__(self, make_cluster, rng, clients=CLIENTS):
        self.rng = rng
        self.cluster = cluster = make_cluster(start=False)
        cluster.add_ingestd()
        self.whole = [cluster.exporter, cluster.add_exporter()]
        self.shards = [cluster.add_exporter("--shard", f"{i}/{SHARDS}") for i in range(SHARDS)]
        self.late = cluster.add_exporter("--ready-timeout", "1s")
        cluster.exporters.remove(self.late)
        cluster.daemons.remove(self.late)
        cluster.dial_all([*cluster.exporters, self.late])
        self.keys = cluster.prepare([f"client-{i}" for i in range(clients)])
        cluster.ingestd.start()
        cluster.add_cluster("c1", region="eu", datacenter="dc")
        tokens = {f"headend-{i}": cluster.add_headend(f"headend-{i}", cluster="c1") for i in range(HEADENDS)}
        cluster.ingestd.stop()
        cluster.copy_registry()
        cluster.start()
        self.tokens, self.number, self.value = tokens, 0, 0

    def report(self, ingestd, names, headends=()):
        """One batch straight to one ingestd; every value is new."""
        pb = self.cluster.pb.ingest
        self.number += 1
        batch, now, credentials = pb.Batch(agent_id="bed", boot_id=1, number=self.number), int(time.time() * 1000), []
        for name in names:
            self.value += 1
            batch.clients.add(client_id=name, time_unix_ms=[now], bytes_sent=[self.value], packets_sent=[2 * self.value])
            credentials.append(self.keys[name])
        for name in headends:
            self.value += 1
            batch.headends.add(headend_id=name, time_unix_ms=[now], cpu_usage=[self.value / 8])
            credentials.append(self.tokens[name])
        with self.cluster.rpc(url=ingestd.url) as rpc:
            answer = rpc.submit(pb.SubmitRequest(batch=batch.SerializeToString(), credentials=credentials))
        assert answer.stored_series == len(names) + len(headends), answer
        # Of two check-ins in one millisecond none is the later one: the next report gets another.
        answered_ms = time.time_ns() // 10**6
        wait_until(lambda: time.time_ns() // 10**6 > answered_ms)

    def report_some(self, ingestd):
        names = self.rng.sample(sorted(self.keys), len(self.keys) // 3)
        self.report(ingestd, names, self.rng.sample(sorted(self.tokens), 2))

    def check(self, exporters=None):
        """Every exporter shows the union; the shards show it together, each source once."""
        for exporter in exporters or self.whole:
            rows = wait_union(self.cluster, exporter)
        wait_until(lambda: not self.shard_differences(expected(rows)), "the shards together show the fleet")
        parts = [shown(self.cluster, shard) for shard in self.shards]
        assert all(parts), "a shard has nothing"

    def shard_differences(self, wanted):
        together = {}
        for shard in self.shards:
            part = shown(self.cluster, shard)
            if part is None:
                return [f"{shard.name} has no exposition"]
            both = {key[::2] for key in part} & {key[::2] for key in together}
            assert not both, f"two shards show {both}"
            together.update(part)
        return differences(wanted, together)


def manager_series(cluster, exporter):
    return {name for name, _ in cluster.scrape(exporter.url).samples if name.startswith("tobogganing_manager_")}


def sources_move(bed, rounds):
    """Sources report to either in turn; the later report counts, whichever took it."""
    for _ in range(rounds):
        for ingestd in bed.rng.sample(bed.cluster.ingestds, 2):
            bed.report_some(ingestd)
    bed.check()


def one_goes_away(bed, clean):
    """Its rows stay, what it can't take the other one takes, and it comes back with what it had."""
    away, other = bed.rng.sample(bed.cluster.ingestds, 2)
    rows = union([snapshot(bed.cluster, ingestd) for ingestd in bed.cluster.ingestds])
    if clean:
        away.stop()
    else:
        away.kill()
    moved = bed.rng.sample(sorted(bed.keys), 5)
    bed.report(other, moved)
    there = snapshot(bed.cluster, other)
    rows.clients.update((name, there.clients[name]) for name in moved)
    wanted = expected(rows)
    for exporter in bed.whole:
        wait_shown(bed.cluster, exporter, wanted)
    # An exporter that starts now can't know what the one that is away has; those that run keep it.
    away.start()
    bed.check()
    bed.report(away, moved[:2])
    bed.check()


def an_exporter_restarts(bed):
    exporter = bed.rng.choice(bed.whole + bed.shards)
    if bed.rng.random() < 0.5:
        exporter.stop()
    else:
        exporter.kill()
    bed.report_some(bed.rng.choice(bed.cluster.ingestds))
    exporter.start()
    bed.cluster.wait_ready()
    bed.check()


def an_exporter_starts_while_one_is_away(bed):
    """It waits for the one that is away for a while, shows what the other has then, and the rest when that is back."""
    cluster, late = bed.cluster, bed.late
    away, other = bed.rng.sample(cluster.ingestds, 2)
    away.stop()
    late.start()
    try:
        wait_shown(cluster, late, expected(snapshot(cluster, other)))
        away.start()
        bed.check([*bed.whole, late])
    finally:
        late.stop()


def deleted_everywhere(bed):
    """A client that the registry loses leaves every exporter. In SQLite each ingestd has a registry of its own."""
    name = bed.rng.choice(sorted(bed.keys))
    for ingestd in bed.cluster.ingestds:
        bed.report(ingestd, [name])
    bed.check()
    for ingestd in bed.cluster.registrars():
        bed.cluster.ctl_ok("client", "delete", name, "--server", ingestd.url)
    del bed.keys[name]
    for exporter in bed.cluster.exporters:
        wait_until(lambda e=exporter: not any(key[2] == name for key in shown(bed.cluster, e)), f"{name} leaves {exporter.name}")
    bed.check()


def under_load(bed):
    """Writers that switch between both all the time, while one of them is killed now and then."""
    urls = [ingestd.url for ingestd in bed.cluster.ingestds]
    names = sorted(bed.keys)
    writers = [Hopper(bed.cluster, f"hopper-{i}", {name: bed.keys[name] for name in names[i::2]}, samples=3, urls=urls,
                      rng=random.Random(bed.rng.random())) for i in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            values = [writer.value for writer in writers]
            wait_until(lambda: all(w.error or w.value > value + 30 for w, value in zip(writers, values)), "they write")
            victim = bed.rng.choice(bed.cluster.ingestds)
            victim.kill()
            victim.start()
    finally:
        for writer in writers:
            writer.stop()
    rows = wait_union(bed.cluster, bed.whole[0])
    wrong = {name: (rows.clients[name].bytes_sent, value) for name, value in all_acked(writers).items()
             if rows.clients[name].bytes_sent != value}
    assert not wrong, f"shown and acknowledged: {wrong}"
    bed.check()


class Hopper(RpcWriter):
    """Takes another ingestd for every few batches."""
    history_ms = 0  # its samples come after those of the bed

    def step(self):
        if self.rng.random() < 0.2:
            self.disconnect()
        super().step()


def run(make_cluster, say, seed, rounds=1):
    rng = random.Random(seed)
    bed = Bed(make_cluster, rng)
    for ingestd in bed.cluster.ingestds:  # everybody is known, to one or the other
        which = bed.cluster.ingestds.index(ingestd)
        bed.report(ingestd, sorted(bed.keys)[which::2], sorted(bed.tokens)[which::2])
    bed.check()
    whole = manager_series(bed.cluster, bed.whole[0])
    assert manager_series(bed.cluster, bed.shards[0]) == whole and not manager_series(bed.cluster, bed.shards[1])
    for turn in range(rounds):
        sources_move(bed, 3)
        one_goes_away(bed, clean=True)
        an_exporter_restarts(bed)
        one_goes_away(bed, clean=False)
        an_exporter_starts_while_one_is_away(bed)
        under_load(bed)
        deleted_everywhere(bed)
        say(f"  round {turn + 1} of {rounds}: {bed.value} reports")
    return {"rounds": rounds, "reports": bed.value, "clients": len(bed.keys)}
