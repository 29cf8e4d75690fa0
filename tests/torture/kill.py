"""kill -9: writers submit all the time over RPC and HTTP, ingestd (and now and then a gateway or an exporter) is killed at
random moments, and afterwards everything acknowledged is there and nothing was counted twice."""
import contextlib
import random
import time

from harness import sanitized, wait_until
from torture.fleet import expected, health, last_values, manager_total, snapshot, wait_shown
from torture.writers import HttpWriter, RpcWriter, all_acked

SENDERS, CLIENTS_OF_SENDER, FORGETFUL, HTTP_CLIENTS = 3, 12, 6, 3
# So small that kills hit rotations of segments, checkpoints and the removal of what is old.
SMALL_JOURNAL = ("--journal-segment-bytes", "1MiB", "--checkpoint-bytes", "1MiB", "--checkpoint-interval", "1s",
                 "--journal-retain-bytes", "8MiB")
RECOVER_S = 10.0  # until gateway and exporters are back at work after a restart of ingestd
ENDPOINT = "/api/v1/clients/{client_id}/metrics"


def slack():
    """Sanitizers make everything slower."""
    return RECOVER_S * (4 if sanitized() else 1)


class Forgetful(RpcWriter):
    """Sends every batch again after a while, in which there may be a kill, a checkpoint, or both: it has to be known."""

    def step(self):
        request = self.make()
        self.take(self.deliver(request))
        self.stopping.wait(self.rng.uniform(0.05, 1.5))
        again = self.deliver(request)
        assert again.repeated and again.stored_series == len(self.keys), f"taken for a new batch: {again}"
        self.repeated += 1


class Bed:
    """A cluster with two exporters, and its writers."""

    def __init__(self, make_cluster, rng, ingestd_options=()):
        self.rng = rng
        self.cluster = make_cluster(start=False, ingestd_options=(*SMALL_JOURNAL, *ingestd_options))
        self.cluster.add_exporter()
        # Long names fill the journal sooner.
        rpc = [f"rpc-{i}-{'x' * 100}" for i in range(SENDERS * CLIENTS_OF_SENDER)]
        twice = [f"twice-{i}" for i in range(FORGETFUL)]
        http = [f"http-{i}" for i in range(HTTP_CLIENTS)]
        keys = self.cluster.prepare(rpc + twice + http)
        self.cluster.start()
        share = [{name: keys[name] for name in rpc[i::SENDERS]} for i in range(SENDERS)]
        self.senders = [RpcWriter(self.cluster, f"sender-{i}", share[i], samples=20, rng=random.Random(rng.random()))
                        for i in range(SENDERS)]
        self.forgetful = [Forgetful(self.cluster, f"sender-of-{name}", {name: keys[name]}, samples=2,
                                    rng=random.Random(rng.random())) for name in twice]
        self.posters = [HttpWriter(self.cluster, name, keys[name]) for name in http]
        self.longest_recovery_s = 0.0

    @property
    def rpc_writers(self):
        return self.senders + self.forgetful

    def wait_recovered(self, posters):
        """Gateway and both exporters work again: what is acknowledged from now on arrives there."""
        started = time.monotonic()
        start = {writer.name: writer.value for writer in (*self.senders, *posters)}
        wanted = {}

        def acknowledged():
            for writer in (*self.senders, *posters):
                writer.check()
                fresh = {name: value for name, value in list(writer.acked.items()) if value > start[writer.name]}
                wanted.update(list(fresh.items())[:1])
            return len(wanted) == len(start)
        wait_until(acknowledged, "every writer's reports are acknowledged again", slack())
        self.cluster.wait_ready(slack())
        for exporter in self.cluster.exporters:
            def arrived(url=exporter.url):
                scrape = self.cluster.scrape(url)
                return all((scrape.value("tobogganing_client_bytes_sent", client_id=name) or 0) >= value
                           for name, value in wanted.items())
            wait_until(arrived, f"{exporter.name} shows what was acknowledged after the restart", slack())
        self.longest_recovery_s = max(self.longest_recovery_s, time.monotonic() - started)

    def kill_one(self, others):
        """Kills and starts one daemon at a random moment. True when it was given the time to be ready."""
        rng, cluster = self.rng, self.cluster
        time.sleep(rng.uniform(0.02, 0.5))  # the random moment, not a wait for anything
        if others and rng.random() < 0.25:
            daemon = rng.choice([cluster.gateway, *cluster.exporters])
            daemon.kill()
            daemon.start()
            return True
        cluster.ingestd.kill()
        early = rng.random() < 0.25
        cluster.ingestd.start(wait=not early)
        if early:  # the next kill comes while it recovers
            time.sleep(rng.uniform(0, 0.06))
        return not early

    def cycles(self, count, writers, posters, say):
        kills = 0
        with contextlib.ExitStack() as running:
            for writer in writers:
                running.enter_context(writer)
            while kills < count:
                ready = self.kill_one(others=bool(posters))
                kills += 1
                if ready:
                    self.wait_recovered(posters)
                if kills % 25 == 0:
                    say(f"  {kills} of {count} kills; {sum(w.batches for w in self.rpc_writers)} batches acknowledged")
            if not ready:
                self.cluster.ingestd.wait_ready()
                self.wait_recovered(posters)

    def check_values(self, writers):
        """Every last acknowledged value, and nothing later, is in the fleet table and in both exporters."""
        acked, rows = all_acked(writers), snapshot(self.cluster)
        stored = last_values(rows)
        wrong = {name: (stored.get(name), value) for name, value in acked.items() if stored.get(name) != value}
        assert not wrong, f"in the fleet table and as acknowledged: {dict(list(wrong.items())[:5])}"
        for exporter in self.cluster.exporters:
            wait_shown(self.cluster, exporter, expected(rows))

    def check_counts(self, http_batches=None):
        """Batches and samples are counted once. Of HTTP reports it is only known how many there were at least."""
        state = health(self.cluster)
        batches, samples = (sum(getattr(w, what) for w in self.rpc_writers) for what in ("batches", "stored_samples"))
        if http_batches is None:
            assert (state.stored_batches, state.stored_samples) == (batches, samples), \
                f"{state.stored_batches} batches, {state.stored_samples} samples counted; {batches}, {samples} acknowledged"
        else:
            assert state.stored_batches > batches and state.stored_samples >= samples + http_batches, \
                f"{state.stored_batches} batches, {state.stored_samples} samples counted; {batches} and {samples} over RPC"
        return state


def check_manager_totals(bed):
    """Requests answered 200 are counted, by both exporters alike. A killed gateway takes what it had not reported yet with
    it, so there may be fewer than were seen; never more, but for answers that it could not send any more."""
    seen = sum(writer.statuses.get(status, 0) for writer in bed.posters for status in (200, "no connection"))
    labels = {"method": "POST", "endpoint": ENDPOINT, "status": "200"}

    def same():
        totals = {manager_total(bed.cluster, exporter, "http_requests_total", **labels) for exporter in bed.cluster.exporters}
        return totals.pop() if len(totals) == 1 else None
    total = wait_until(same, "both exporters show the same total")
    assert 0 < total <= seen, f"{total} requests are counted, {seen} were answered"


def run(make_cluster, say, seed, cycles=25, ingestd_options=(), with_http=True):
    """Over RPC alone first, where the counters must be exact to the batch; then with HTTP, and kills of the others too."""
    rng = random.Random(seed)
    bed = Bed(make_cluster, rng, ingestd_options)
    exact = (cycles + 1) // 2 if with_http else cycles
    bed.cycles(exact, bed.rpc_writers, [], say)
    bed.check_values(bed.rpc_writers)
    state = bed.check_counts()
    if with_http:
        # Threads run once: the senders go on as new ones of the same identity.
        bed.senders = [successor(writer) for writer in bed.senders]
        bed.forgetful = [successor(writer) for writer in bed.forgetful]
        bed.cycles(cycles - exact, bed.rpc_writers + bed.posters, bed.posters, say)
        bed.check_values(bed.rpc_writers + bed.posters)
        state = bed.check_counts(http_batches=sum(writer.value for writer in bed.posters))
        check_manager_totals(bed)
    assert state.checkpoint.segment, "there never was a checkpoint"
    # A clean stop and a start of everything change nothing.
    bed.cluster.ingestd.stop()
    bed.cluster.ingestd.start()
    bed.cluster.wait_ready(slack())
    bed.check_values(bed.rpc_writers + bed.posters)
    again = health(bed.cluster)
    assert (again.stored_batches, again.stored_samples) == (state.stored_batches, state.stored_samples)
    bed.cluster.ingestd.stop()
    bed.cluster.ctl_ok("journal", "verify", str(bed.cluster.state_dir))
    bed.cluster.ingestd.start()
    writers = bed.rpc_writers
    return {"cycles": cycles, "batches": sum(w.batches for w in writers), "samples": sum(w.stored_samples for w in writers),
            "repeated": sum(w.repeated for w in writers), "http_reports": sum(w.value for w in bed.posters),
            "segment": state.journal_end.segment, "longest_recovery_s": round(bed.longest_recovery_s, 2),
            "longest_ack_s": round(max(w.longest_s for w in writers + bed.posters), 2)}


def successor(writer):
    """Goes on where a stopped sender ended."""
    new = type(writer)(writer.cluster, writer.name, writer.keys, writer.samples, writer.pace_s, writer.urls, writer.rng)
    for name in ("boot_id", "number", "value", "time_ms", "acked", "batches", "attempts", "repeated", "refused",
                 "last_durable", "longest_s"):
        setattr(new, name, getattr(writer, name))
    return new
