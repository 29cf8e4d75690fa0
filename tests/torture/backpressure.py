"""Backpressure: the disk hangs or is full, or more is sent than memory is given for. Callers are sent away with a time to
come back, memory stays below the cap, reads go on, and everything works again afterwards."""
import itertools
import threading
import time
from pathlib import Path

import sp
import wire
from harness import DEADLINE, wait_until
from torture.fleet import expected, health, shown, snapshot, wait_shown
from torture.shim import Shim
from torture.writers import HISTORY_MS, Worker

MIB = 1 << 20
CAP_MIB = 64
# Beside the cap: what the process has anyway, the allocator's slack, and NNG's messages (small on the wire here).
MARGIN_MIB = 48
FLOOD = 32  # connections
KEPT_MIB = 5  # 16 KiB for each of 256 contexts stay
CODES = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
HANG_MS = 3000


def rss_mib(daemon):
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class Bed:
    def __init__(self, make_cluster, cap_mib=CAP_MIB):
        self.cluster = make_cluster(start=False, ingestd_options=("--max-request-memory", f"{cap_mib}MiB"))
        self.cluster.state_dir.mkdir()
        self.shim = Shim(self.cluster.ingestd, self.cluster.folder, match="/journal/")
        self.keys = self.cluster.prepare([f"client-{i}" for i in range(FLOOD)] + ["by-http", "by-rpc"])
        self.cluster.start()
        self.value, self.numbers = itertools.count(1), {}

    def request(self, client, series=1, samples=1):
        """A batch with the next number of its sender; a large one is small on the wire."""
        pb = self.cluster.pb.ingest
        number = self.numbers[client] = self.numbers.get(client, 0) + 1
        batch = pb.Batch(agent_id=f"agent-of-{client}", boot_id=9, number=number)
        value = next(self.value)
        start = int(time.time() * 1000) - HISTORY_MS
        times = wire.deltas(range(start, start + samples))
        values = [value] + [0] * (samples - 1)
        for _ in range(series):
            batch.clients.add(client_id=client, time_unix_ms=times, bytes_sent=values, bytes_received=values,
                              packets_sent=values, packets_received=values, connection_uptime_ms=values)
        return pb.SubmitRequest(batch=batch.SerializeToString(), credentials=[self.keys[client]]).SerializeToString()

    def post(self, value):
        return self.cluster.post_client("by-http", self.keys["by-http"], {"metrics": {"bytes_sent": value}})

    def check_refusal(self, error):
        assert error.code in CODES and error.message, error
        if error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
            assert 0 < error.response.retry_after_ms <= 60_000, error.response


class Pusher(Worker):
    """Submits all the time, one call under way; remembers what was acknowledged."""

    def __init__(self, bed, client):
        super().__init__(f"pusher of {client}")
        self.bed, self.client, self.rpc = bed, client, bed.cluster.rpc()
        self.acked = self.refused = 0

    def step(self):
        request = self.bed.request(self.client)
        while True:
            try:
                assert self.rpc.submit(request, timeout_ms=30_000).stored_series == 1
                self.acked += 1
                return
            except sp.RpcError as error:
                self.bed.check_refusal(error)
                self.refused += 1
                time.sleep(min(error.response.retry_after_ms, 100) / 1000)  # sooner than told

    def stop(self):
        super().stop()
        self.rpc.close()


class Call(threading.Thread):
    """One call, repeated until it is answered; remembers how it was refused meanwhile."""

    def __init__(self, bed, request, patience_s=DEADLINE):
        super().__init__()
        self.bed, self.request, self.patience_s = bed, request, patience_s
        self.refused, self.answer, self.error, self.slowest_refusal_s = [], None, None, 0.0
        self.start()

    def run(self):
        try:
            end = time.monotonic() + self.patience_s
            with self.bed.cluster.rpc() as rpc:
                while not self.answer and time.monotonic() < end:
                    started = time.monotonic()
                    try:
                        self.answer = rpc.submit(self.request, compress=True, timeout_ms=int(DEADLINE * 1000))
                    except sp.RpcError as error:
                        self.bed.check_refusal(error)
                        self.refused.append(error)
                        self.slowest_refusal_s = max(self.slowest_refusal_s, time.monotonic() - started)
                        time.sleep(min(error.response.retry_after_ms, 500) / 1000)  # as told, within a test's patience
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(2 * DEADLINE)
        if self.error:
            raise self.error
        assert self.answer, f"never answered; refused {len(self.refused)} times"
        return self.answer


def disk_hangs(bed, say):
    """While syncs take seconds new reports are refused at once, and whoever asks for health is answered."""
    cluster = bed.cluster
    before = health(cluster).refused_calls
    shown_before = shown(cluster, cluster.exporter)
    bed.shim.delay(HANG_MS)
    pushers = [Pusher(bed, f"client-{i}").start() for i in range(4)]
    try:
        def refused_at_once():
            started = time.monotonic()
            try:
                with cluster.rpc() as rpc:
                    rpc.submit(bed.request("by-rpc"), timeout_ms=10_000)
                return None
            except sp.RpcError as error:
                bed.check_refusal(error)
                took_s = time.monotonic() - started  # the first ones wait until it is clear that the disk hangs
                return (error, took_s) if error.code == "RESOURCE_EXHAUSTED" and took_s < 0.5 else None
        error, took_s = wait_until(refused_at_once, "a report is refused at once")
        assert 500 <= error.response.retry_after_ms <= 31_000, error.response

        def refused_over_http():
            answer = bed.post(1)
            assert answer.status_code in (200, 503, 504), answer.text
            return [answer] if answer.status_code == 503 else None
        answer, = wait_until(refused_over_http, "a report over HTTP is refused")
        assert int(answer.headers["Retry-After"]) >= 1 and answer.json()["error"]
        started = time.monotonic()
        state = health(cluster)
        assert time.monotonic() - started < 1, "health waits for the disk"
        assert state.refused_calls > before
        assert shown(cluster, cluster.exporter).keys() >= shown_before.keys()
    finally:
        bed.shim.clear()
        for pusher in pushers:
            pusher.stop()
    assert all(pusher.acked for pusher in pushers)
    wait_until(lambda: bed.post(2).status_code == 200, "reports over HTTP are taken again")
    say(f"  disk hangs: {health(cluster).refused_calls - before} calls refused, the first after {took_s * 1000:.0f} ms")


def memory_is_short(bed, say, rounds=2):
    """Far more arrives than the cap allows: some wait, some are refused, and memory stays where it may be."""
    cluster, ingestd = bed.cluster, bed.cluster.ingestd
    base = rss_mib(ingestd)
    cap = health(cluster).request_memory_max_bytes
    assert cap == CAP_MIB * MIB, cap
    peak, done = [base], threading.Event()

    def watch():
        while not done.wait(0.01):
            peak[0] = max(peak[0], rss_mib(ingestd))
    watcher = threading.Thread(target=watch)
    watcher.start()
    bed.shim.delay(400)
    refused, interval = 0, []
    try:
        for _ in range(rounds):
            # About 12 MiB each once unpacked, a few KiB on the wire.
            calls = [Call(bed, bed.request(f"client-{i}", series=25, samples=10_000)) for i in range(FLOOD)]
            wait_until(lambda: any(call.refused or call.answer for call in calls), "the first answer")
            started = time.monotonic()
            state = health(cluster)
            assert time.monotonic() - started < 5, "health waits for memory"
            assert state.request_memory_bytes <= cap, f"{state.request_memory_bytes} bytes over the cap"
            bed.shim.delay(0)
            interval += [call.result().next_report_in_ms for call in calls]
            refused += sum(len(call.refused) for call in calls)
            bed.shim.delay(400)
    finally:
        bed.shim.clear()
        done.set()
        watcher.join()
    assert refused > 0, "nothing was refused: the flood was too small"
    limit = base + CAP_MIB + MARGIN_MIB
    assert peak[0] < limit, f"{peak[0]:.0f} MiB, {base:.0f} before, {CAP_MIB} allowed"
    left = []

    def given_back():
        left[:] = [health(cluster).request_memory_bytes]
        return left[0] < KEPT_MIB * MIB
    try:
        wait_until(given_back, timeout=10)
    except AssertionError:
        raise AssertionError(f"{left[0]} bytes of memory are still taken by calls that have been answered") from None
    say(f"  memory: {FLOOD * rounds} calls of about 12 MiB, {refused} refusals, at most {peak[0]:.0f} MiB "
        f"({base:.0f} before, cap {CAP_MIB}); next report in {min(interval)}…{max(interval)} ms")
    return {"peak_rss_mib": round(peak[0]), "base_rss_mib": round(base), "cap_mib": CAP_MIB, "refusals": refused}


def disk_is_full(bed, say):
    """No room: nothing is acknowledged, reads go on, and reports are taken again when there is."""
    cluster = bed.cluster
    with cluster.rpc() as rpc:
        assert rpc.submit(bed.request("by-rpc")).stored_series == 1
        acked = snapshot(cluster).clients["by-rpc"].bytes_sent
        bed.shim.full()
        try:
            for _ in range(5):
                try:
                    rpc.submit(bed.request("by-rpc"))
                    raise AssertionError("acknowledged without room on the disk")
                except sp.RpcError as error:
                    bed.check_refusal(error)
            answer = bed.post(3)
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1, answer.text
            rows = snapshot(cluster)
            assert rows.clients["by-rpc"].bytes_sent == acked
            wait_shown(cluster, cluster.exporter, expected(rows))
        finally:
            bed.shim.clear()
        wait_until(lambda: bed.post(4).status_code == 200, "reports are taken again")
        assert rpc.submit(bed.request("by-rpc")).stored_series == 1
    assert snapshot(cluster).clients["by-rpc"].bytes_sent > acked
    say("  disk full: nothing acknowledged meanwhile, taken again afterwards")


def run(make_cluster, say, _seed, rounds=2):
    bed = Bed(make_cluster)
    assert bed.post(0).status_code == 200
    wait_until(lambda: shown(bed.cluster, bed.cluster.exporter), "the exporter shows the fleet")
    disk_hangs(bed, say)
    result = memory_is_short(bed, say, rounds)
    disk_is_full(bed, say)
    # Whatever was acknowledged survives what comes now.
    rows = expected(snapshot(bed.cluster))
    totals = health(bed.cluster)
    bed.cluster.ingestd.kill()
    bed.cluster.ingestd.start()
    bed.cluster.wait_ready()
    wait_shown(bed.cluster, bed.cluster.exporter, rows)
    again = health(bed.cluster)
    assert (again.stored_batches, again.stored_samples) == (totals.stored_batches, totals.stored_samples)
    return result
