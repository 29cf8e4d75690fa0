"""A rolling restart: two ingestd behind one gateway are stopped and started in turn under load. No request fails."""
import contextlib
import json
import random
import subprocess
import time

from harness import DEADLINE, binary, clean_environment, wait_until
from torture.fleet import differences, expected, health, manager_total, shown, snapshot
from torture.writers import HttpWriter, Worker, all_acked

STOP_S = 10.0  # what a stop may take
HTTP_CLIENTS = 6
ENDPOINT = "/api/v1/clients/{client_id}/metrics"


class AgentWriter(Worker):
    """One running agent that knows both ingestd, and is fed lines."""
    pace_s = 0.02

    def __init__(self, cluster, keys):
        super().__init__("agent")
        self.cluster, self.keys, self.value, self.acked = cluster, keys, 0, {}

    def start(self):
        urls = ",".join(ingestd.url for ingestd in self.cluster.ingestds)
        log = open(self.cluster.folder / "agent.log", "ab")
        with log:
            self.agent = subprocess.Popen(
                [binary("tobogganing-agent"), "client", "--from-stdin", "--server", urls, "--batch-interval", "100ms",
                 "--deadline", f"{int(DEADLINE)}s"], stdin=subprocess.PIPE, stderr=log, text=True, env=clean_environment())
        return super().start()

    def step(self):
        self.value += 1
        for name, key in self.keys.items():
            self.agent.stdin.write(json.dumps({"client_id": name, "api_key": key, "metrics": {"bytes_sent": self.value}}) + "\n")
        self.agent.stdin.flush()

    def stop(self):
        super().stop()
        self.agent.communicate(timeout=2 * DEADLINE)
        log = (self.cluster.folder / "agent.log").read_text(errors="replace")
        assert self.agent.returncode == 0, f"the agent could not deliver everything:\n{log[-3000:]}"
        self.acked = dict.fromkeys(self.keys, self.value)


def union(fleets):
    """What an exporter of several ingestd has to show: of each source the row with the latest check-in."""
    result = fleets[0]
    for other in fleets[1:]:
        for kind in ("clients", "headends"):
            rows = getattr(result, kind)
            for name, row in getattr(other, kind).items():
                if name not in rows or row.last_check_in_unix_ms > rows[name].last_check_in_unix_ms:
                    rows[name] = row
    return result


def wait_union(cluster, exporter, timeout=DEADLINE):
    """Waits until an exporter shows exactly the union of all ingestd's fleets."""
    rows = union([snapshot(cluster, ingestd) for ingestd in cluster.ingestds])
    wanted, found = expected(rows), []

    def same():
        found[:] = differences(wanted, shown(cluster, exporter))
        return not found
    try:
        wait_until(same, timeout=timeout)
    except AssertionError:
        raise AssertionError(f"{exporter.name} does not show the fleets of all ingestd: {found}") from None
    return rows


def restart(cluster, ingestd, writers):
    """Stops one under load, starts it, and waits until it is taken for calls again. Returns the seconds of the stop."""
    started = time.monotonic()
    ingestd.stop()  # which has to end with status 0
    took = time.monotonic() - started
    assert took <= STOP_S, f"{ingestd.name} took {took:.1f} s to stop"
    assert list((ingestd.state_dir / "journal").glob("checkpoint-*")), f"{ingestd.name} left no checkpoint"
    for writer in writers:
        writer.check()
    # Meanwhile the other one has the whole load.
    values = [writer.value for writer in writers]
    wait_until(lambda: all(writer.value > value or writer.error for writer, value in zip(writers, values)), "the load goes on")
    ingestd.start()
    values = [writer.value for writer in writers]
    wait_until(lambda: all(writer.value > value or writer.error for writer, value in zip(writers, values)), "the load goes on")
    return took


def wait_connected(cluster, ingestd, stored):
    """Until an ingestd that was started has stored something new."""
    wait_until(lambda: health(cluster, ingestd).stored_batches > stored, f"{ingestd.name} takes reports again")


def check_totals(cluster, requests):
    """The gateway divided what it counted among both ingestd; together it is every request, once."""
    labels = {"method": "POST", "endpoint": ENDPOINT, "status": "200"}
    seen = []

    def counted():
        seen[:] = [manager_total(cluster, cluster.exporter, "http_requests_total", **labels)]
        return seen[0] == requests
    try:
        wait_until(counted, timeout=20)
    except AssertionError:
        raise AssertionError(f"{seen[0]} requests are counted, {requests} were answered") from None


def run(make_cluster, say, seed, rounds=2):
    rng = random.Random(seed)
    cluster = make_cluster(start=False)
    cluster.add_ingestd()
    cluster.dial_all()
    agents = [f"agent-{i}" for i in range(2)]
    http = [f"http-{i}" for i in range(HTTP_CLIENTS)]
    keys = cluster.prepare(agents + http)
    cluster.start()
    posters = [HttpWriter(cluster, name, keys[name], pace_s=0.005, may_fail=False) for name in http]
    writers = [*posters, AgentWriter(cluster, {name: keys[name] for name in agents})]
    stops = []
    with contextlib.ExitStack() as running:
        for writer in writers:
            running.enter_context(writer)
        wait_until(lambda: all(writer.value > 5 or writer.error for writer in writers), "the load flows")
        for turn in range(rounds):
            for ingestd in rng.sample(cluster.ingestds, 2):
                stored = health(cluster, ingestd).stored_batches
                stops.append(restart(cluster, ingestd, writers))
                # As with a rollout: the next goes when this one is in use.
                wait_connected(cluster, ingestd, stored)
            say(f"  round {turn + 1} of {rounds}: {sum(writer.value for writer in posters)} requests, none failed, "
                f"longest {max(writer.longest_s for writer in posters):.2f} s, longest stop {max(stops):.2f} s")
    assert all(set(writer.statuses) == {200} for writer in posters)
    rows = wait_union(cluster, cluster.exporter)
    acked = all_acked(writers)
    wrong = {name: (rows.clients[name].bytes_sent, value) for name, value in acked.items()
             if rows.clients[name].bytes_sent != value}
    assert not wrong, f"shown and acknowledged: {wrong}"
    check_totals(cluster, sum(writer.value for writer in posters))
    return {"restarts": len(stops), "requests": sum(writer.value for writer in posters), "failed_requests": 0,
            "longest_request_s": round(max(writer.longest_s for writer in posters), 2),
            "longest_stop_s": round(max(stops), 2)}
