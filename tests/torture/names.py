"""Names that resolve to several addresses: all of them are dialled, and addresses come and go while programs run."""
import random
from pathlib import Path
from urllib.parse import urlsplit

from harness import BIN_DIR, free_port, set_option, wait_until
from torture.fleet import health, shown
from torture.rolling import wait_union
from torture.writers import HttpWriter

NAME = "ingestd.test"
FIRST, SECOND = "127.0.0.2", "127.0.0.3"
RESOLVE_S = 25.0  # names are resolved every 10 s
ESTABLISHED = "01"


class Resolver:
    """What the preloaded resolver.c answers."""

    def __init__(self, daemons, folder):
        libraries = list(BIN_DIR.glob("**/libtob_resolver.so"))
        assert libraries, f"libtob_resolver.so is not under {BIN_DIR}: build it with -DTOB_TESTS=ON"
        self.file, self.daemons, self.calls_files = folder / "names", daemons, []
        for daemon in daemons:
            calls = folder / f"{daemon.name}-lookups"
            calls.touch()
            self.calls_files.append(calls)
            daemon.env.update(LD_PRELOAD=str(libraries[0]), TOB_RESOLVER_FILE=str(self.file), TOB_RESOLVER_CALLS=str(calls))

    def answer(self, *addresses):
        draft = self.file.with_suffix(".new")
        draft.write_text(" ".join([NAME, *addresses]) + "\n")
        draft.replace(self.file)

    def wait_asked(self):
        """Until every program has asked at least twice from now on: it has had time to act on the first answer."""
        before = [path.stat().st_size for path in self.calls_files]
        wait_until(lambda: all(path.stat().st_size >= n + 2 for path, n in zip(self.calls_files, before)),
                   "the name is resolved again", 2 * RESOLVE_S)


def connections_to(url):
    """How many established connections there are to an address of ours."""
    address = urlsplit(url)
    host = "".join(f"{int(part):02X}" for part in reversed(address.hostname.split(".")))
    wanted = f"{host}:{address.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[2] == wanted and row[3] == ESTABLISHED)


def run(make_cluster, say, seed, rounds=1):
    rng = random.Random(seed)
    cluster = make_cluster(start=False)
    port, bus_port = free_port(), free_port()
    first = cluster.ingestd
    first.url, first.bus_url = f"tcp://{FIRST}:{port}", f"tcp://{FIRST}:{bus_port}"
    set_option(first, "--listen", first.url)
    set_option(first, "--bus-listen", first.bus_url)
    cluster.ingest_url = first.url
    cluster.add_ingestd(host=SECOND, port=port, bus_port=bus_port)
    for daemon in (cluster.gateway, cluster.exporter):
        set_option(daemon, "--ingest", f"tcp://{NAME}:{port}")
    set_option(cluster.exporter, "--bus", f"tcp://{NAME}:{bus_port}")
    resolver = Resolver([cluster.gateway, cluster.exporter], cluster.folder)
    keys = cluster.prepare(["by-http", "at-second", "late"])
    for ingestd in cluster.ingestds:
        ingestd.start()

    # Before the name exists there is nobody to dial; then they are found without a restart.
    resolver.answer()
    cluster.gateway.start()
    cluster.exporter.start(wait=False)
    for url in (cluster.manager_url, cluster.exporter_url):
        wait_until(lambda u=url: cluster.get_status(u + "/healthz") == 200, f"{url} lives")
        assert cluster.get_status(url + "/readyz") == 503
    resolver.answer(FIRST)
    cluster.wait_ready(RESOLVE_S)
    writer = HttpWriter(cluster, "by-http", keys["by-http"], may_fail=False)
    with writer:
        for _ in range(rounds):
            round_of(cluster, rng, resolver, writer, keys)
    rows = wait_union(cluster, cluster.exporter)
    assert rows.clients["by-http"].bytes_sent == writer.acked["by-http"]
    say(f"  {writer.value} requests, none failed")
    return {"rounds": rounds, "requests": writer.value}


def submit_to(cluster, ingestd, client, key, value):
    """A report straight to one ingestd, as JSON's counterpart on the wire."""
    pb = cluster.pb.ingest
    batch = pb.Batch(agent_id=f"agent-{client}", boot_id=value + 1, number=1)
    batch.clients.add(client_id=client, time_unix_ms=[health(cluster, ingestd).started_unix_ms + value], bytes_sent=[value])
    with cluster.rpc(url=ingestd.url) as rpc:
        assert rpc.submit(pb.SubmitRequest(batch=batch.SerializeToString(), credentials=[key])).stored_series == 1


def round_of(cluster, rng, resolver, writer, keys):
    first, second = cluster.ingestds
    value = writer.value + 1

    def shows(client, number):
        seen = shown(cluster, cluster.exporter)
        return seen is not None and seen.get(("client", "bytes_sent", client)) == number

    # An address that appears is dialled by both, beside the other.
    submit_to(cluster, second, "at-second", keys["at-second"], value)
    assert connections_to(second.url) == 0
    addresses = [FIRST, SECOND]
    rng.shuffle(addresses)
    resolver.answer(*addresses)
    wait_until(lambda: writer.error or shows("at-second", value), "the exporter follows the second one too", RESOLVE_S)
    wait_until(lambda: connections_to(second.url) >= 2, "the gateway has dialled the second one too", RESOLVE_S)
    # One goes away: the other has the load.
    first.stop()
    before = writer.value
    wait_until(lambda: writer.error or writer.value > before + 5, "reports go on")
    first.start()
    # A name that can't be resolved for now keeps its addresses.
    resolver.answer("!")
    resolver.wait_asked()
    wait_until(lambda: connections_to(first.url) >= 2 and connections_to(second.url) >= 2, "both are connected")
    # An address that vanishes is left; what it said stays.
    resolver.answer(SECOND)
    wait_until(lambda: connections_to(first.url) == 0 and connections_to(first.bus_url) == 0, "the first one is left", RESOLVE_S)
    before = writer.value
    wait_until(lambda: writer.error or writer.value > before + 5, "reports go on at the second one")
    stored = health(cluster, first).stored_batches
    submit_to(cluster, first, "late", keys["late"], value)
    assert health(cluster, first).stored_batches == stored + 1, "the gateway still uses an address that is gone"
    assert not shows("late", value)
    # And it comes back.
    resolver.answer(FIRST)
    wait_until(lambda: connections_to(second.url) == 0 and shows("late", value), "the exporter follows the first one again",
               RESOLVE_S)
    writer.check()
