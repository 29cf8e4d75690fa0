"""Clocks: the wall clock of ingestd, gateway and exporter is stepped by days, while they run and across restarts."""
import os
import random
import time

import sp
import wire
from harness import wait_until
from torture.fleet import differences, expected, health, manager_total, shown, snapshot, wait_shown

LIBRARY = "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1".format(os.uname().machine)
DAY_S = 86400
ENDPOINT = "/api/v1/clients/{client_id}/metrics"


class Bed:
    """A cluster on a wall clock of its own; monotonic clocks are the real ones, as with a real step."""

    def __init__(self, make_cluster, rng):
        self.cluster = make_cluster(start=False, ingestd_options=("--report-interval", "60s"))
        self.offset_s, self.rng, self.value, self.posts, self.batches = 0, rng, 0, 0, 0
        self.file = self.cluster.folder / "clock"
        self.step_to(0)
        for daemon in self.cluster.daemons:
            # The "fix" is for older C libraries; with ours it would let timed waits end at once.
            daemon.env.update(LD_PRELOAD=LIBRARY, FAKETIME_TIMESTAMP_FILE=str(self.file), FAKETIME_NO_CACHE="1",
                              FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_FORCE_MONOTONIC_FIX="0", NO_FAKE_STAT="1")
        self.cluster.start()
        self.cluster.add_cluster("c1")
        self.keys = {name: self.cluster.add_client(name, cluster="c1") for name in ("by-http", "by-rpc", "silent")}
        self.cluster.ctl_ok("headend", "add", "--id", "h1", "--cluster", "c1")

    def step_to(self, offset_s):
        self.offset_s = offset_s
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{offset_s:+d}\n")
        draft.replace(self.file)

    def now_ms(self):
        return int((time.time() + self.offset_s) * 1000)

    def post(self, client, value):
        self.posts += 1
        self.cluster.session.close()  # h2o's timers go by the wall clock: a step may end connections that are idle
        answer = self.cluster.post_client(client, self.keys[client], {"metrics": {"bytes_sent": value}})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"

    def submit(self, client, value, at_ms):
        """A report over RPC by a sender whose clock shows at_ms; returns the answer."""
        self.batches += 1
        batch = self.cluster.pb.ingest.Batch(agent_id="agent", boot_id=7, number=self.batches)
        batch.clients.add(client_id=client, time_unix_ms=wire.deltas([at_ms]), bytes_sent=[value])
        request = self.cluster.pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[self.keys[client]])
        with self.cluster.rpc() as rpc:
            return rpc.submit(request)

    def wait_client(self, client, value):
        """Its last value is this one, with a check-in of now, in the fleet table and in the exporter."""
        rows = snapshot(self.cluster)
        row = rows.clients[client]
        assert row.bytes_sent == value, f"{client} has {row.bytes_sent}, not {value}"
        age_ms = self.now_ms() - row.last_check_in_unix_ms
        assert -5000 < age_ms < 60000, f"{client} was last heard of {age_ms} ms ago"
        wait_shown(self.cluster, self.cluster.exporter, expected(rows))

    def report_and_check(self):
        """Everybody who reports by the clock of the server is accepted and moves the last values."""
        self.value += 1
        self.post("by-http", self.value)
        answer = self.submit("by-rpc", self.value, self.now_ms())
        assert (answer.stored_series, len(answer.rejected)) == (1, 0), answer
        token = self.cluster.headend_token("h1")  # as long as the clock says so
        self.cluster.session.close()
        answer = self.cluster.post_headend("h1", token, {"metrics": {"active_connections": self.value}})
        assert answer.status_code == 200, answer.text
        for client in ("by-http", "by-rpc"):
            self.wait_client(client, self.value)
        rows = snapshot(self.cluster)
        assert rows.headends["h1"].active_connections == self.value
        assert rows.clients["silent"].bytes_sent == 5, "a silent source lost its value"
        self.check_totals(rows)

    def check_totals(self, rows):
        """Nothing was counted twice, and no process was taken for dead."""
        state = health(self.cluster)
        http = self.posts + self.value  # of clients, and of the headend
        assert state.stored_batches == state.stored_samples == http + self.batches, \
            f"{state.stored_batches} batches, {state.stored_samples} samples; {http} over HTTP, {self.batches} over RPC"
        assert state.reporting_clients == 3 and state.reporting_headends == 1 and state.clients == 3
        kinds = [process.kind for process in rows.manager.processes]
        assert "retired" not in kinds, kinds
        labels = {"method": "POST", "endpoint": ENDPOINT, "status": "200"}
        seen = []

        def counted():
            seen[:] = [manager_total(self.cluster, self.cluster.exporter, "http_requests_total", **labels)]
            return seen[0] == self.posts
        try:
            wait_until(counted, timeout=20)
        except AssertionError:
            raise AssertionError(f"{seen[0]} requests are counted, {self.posts} were made") from None

    def restart_ingestd(self, clean):
        if clean:
            self.cluster.ingestd.stop()
        else:
            self.cluster.ingestd.kill()
        self.cluster.ingestd.start()
        self.cluster.wait_ready()


def step_while_running(bed, offset_s):
    """Stepped with everything running; what is shown stays, what comes is taken."""
    before = expected(snapshot(bed.cluster))
    bed.step_to(offset_s)
    found = differences(before, shown(bed.cluster, bed.cluster.exporter))
    assert not found, f"the step alone changed what is shown: {found}"
    bed.report_and_check()


def step_across_restart(bed, offset_s, clean):
    """Stepped between a stop and a start of ingestd, of the exporter too."""
    before = expected(snapshot(bed.cluster))
    if clean:
        bed.cluster.ingestd.stop()
    else:
        bed.cluster.ingestd.kill()
    bed.cluster.exporter.stop()
    bed.step_to(offset_s)
    bed.cluster.ingestd.start()
    bed.cluster.exporter.start()
    bed.cluster.wait_ready()
    wait_shown(bed.cluster, bed.cluster.exporter, before)
    bed.report_and_check()


def late_samples_change_nothing(bed):
    """Out-of-order samples stay what they are, whatever the clock did before."""
    answer = bed.submit("by-rpc", 10**9, bed.now_ms() - 3600 * 1000)
    assert answer.stored_series == 1, answer
    bed.wait_client("by-rpc", bed.value)


def samples_ahead_are_refused(bed, client="by-rpc"):
    """A sender whose clock is a day ahead of ours is told so, and its value not taken."""
    try:
        answer = bed.submit(client, 10**9, bed.now_ms() + DAY_S * 1000)
        assert answer.stored_series == 0 and answer.rejected[0].reason, answer
    except sp.RpcError as error:
        assert error.code == "INVALID_ARGUMENT", error
    bed.batches -= 1  # nothing of it was stored


def run(make_cluster, say, seed, rounds=1):
    rng = random.Random(seed)
    bed = Bed(make_cluster, rng)
    bed.post("silent", 5)
    bed.report_and_check()
    steps = 0
    for _ in range(rounds):
        # There and back and beyond: what was stored a day ahead must not stop what comes after the step back.
        for offset in (DAY_S, 0, -DAY_S, 0):
            step_while_running(bed, offset)
            late_samples_change_nothing(bed)
            samples_ahead_are_refused(bed)
            steps += 1
        for offset in rng.sample((DAY_S, -DAY_S), 2) + [0]:
            step_across_restart(bed, offset, clean=rng.random() < 0.5)
            late_samples_change_nothing(bed)
            steps += 1
        say(f"  {steps} steps")
    bed.restart_ingestd(clean=False)
    bed.report_and_check()
    return {"steps": steps, "reports": bed.posts + bed.batches}
