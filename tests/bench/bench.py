"""The benches of tests/bench/run: each starts what it needs, measures, checks that what it measured happened, and
gives one result."""
import argparse
import json
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from harness import BIN_DIR, Cluster, Daemon, clean_environment, free_port, wait_until  # noqa: E402
from machine import cpu_s, machine, rss_bytes  # noqa: E402
from scrape import Scrape, bare_copy_s, bare_gzip_s  # noqa: E402

TYPES = ("native", "docker", "mobile")
FAMILIES = 6  # of a client
MAX_IMPORT = 250000  # clients in one file


def say(text):
    print(text, file=sys.stderr, flush=True)


def load(program, *arguments):
    """Runs a load generator, which prints one JSON object."""
    done = subprocess.run([str(BIN_DIR / "tests" / "bench" / f"bench_{program}"), *map(str, arguments)],
                          stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise AssertionError(f"bench_{program} failed with {done.returncode}: {done.stdout.decode()}")
    return json.loads(done.stdout)


def duration(seconds):
    """As the load generators' options take it."""
    return f"{round(seconds * 1000)}ms"


def import_clients(cluster, path, columns, rows, *options):
    """Registers clients by tobogganctl; returns the seconds that took."""
    path.write_text("\n".join([columns, *rows]) + "\n")
    path.chmod(0o600)
    began = time.monotonic()
    done = cluster.ctl("client", "import", str(path), *options, timeout=600)
    took = time.monotonic() - began
    assert done.returncode == 0 and done.stdout == f"{len(rows)} clients were added\n", done.stdout + done.stderr
    return took


class Bed:
    """A cluster in a folder of its own, with registered clients and a file of their keys."""

    def __init__(self, folder, clients):
        self.cluster = Cluster(folder)
        self.folder, self.count = Path(folder), clients
        self.daemons = [self.cluster.ingestd, self.cluster.gateway, self.cluster.exporter]
        self.clients = self.folder / "clients"

    def __enter__(self):
        try:
            self.cluster.state_dir.mkdir()
            self.cluster.ingestd.start()
            self._register()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, error, trace):
        for daemon in reversed(self.daemons):
            if kind and daemon.log_path.exists():
                say(f"--- log of {daemon.name}\n{daemon.log_path.read_text(errors='replace')[-2000:]}")
            try:
                daemon.stop()
            except AssertionError as failure:
                if not kind:
                    raise
                say(str(failure))
        self.cluster.session.close()

    def _register(self):
        keys = {f"client-{i:06d}": f"tobk_{secrets.token_urlsafe(32)}" for i in range(self.count)}
        rows = [f"{client_id},device-{i},{TYPES[i % 3]},{key}" for i, (client_id, key) in enumerate(keys.items())]
        for at in range(0, len(rows), MAX_IMPORT):
            import_clients(self.cluster, self.folder / "clients.csv", "client_id,name,type,api_key", rows[at:at + MAX_IMPORT])
        self.clients.write_text("".join(f"{client_id} {key}\n" for client_id, key in keys.items()))
        self.clients.chmod(0o600)

    def daemon(self, name, argv):
        """Another process that is stopped with the cluster."""
        daemon = Daemon(name, argv, clean_environment(), self.folder / f"{name}.log")
        self.daemons.append(daemon)
        return daemon.start()

    def submit(self, *arguments):
        return load("submit_load", "--url", self.cluster.ingest_url, "--clients", self.clients, *arguments)


def ingest(folder, options, clients, *arguments):
    with Bed(folder, clients) as bed:
        bed.submit("--rounds", 1, "--series", min(100, clients), "--samples", 1)  # everybody has a row
        result = bed.submit("--pids", bed.cluster.ingestd.process.pid, "--seconds", duration(options.seconds),
                            "--limit", duration(min(options.seconds, 2)), *arguments)
    assert result["reports"] > 0, "nothing was acknowledged"
    result["limit_ratio"] = round(result["reports_per_cpu_s"] / result["limit_reports_per_cpu_s"], 3)
    return {"clients": clients, **result}


def ingest_agent(folder, options):
    """One client × 60 samples a batch, 10 s apart, compressed, acknowledged when durable."""
    return ingest(folder, options, 50 if options.smoke else 2000, "--samples", 60, "--compress", "--in-flight", 128,
                  "--connections", 32)


def ingest_relay(folder, options):
    """100 clients × 1 sample a batch, each with its own key, as a gateway sends them."""
    return ingest(folder, options, 200 if options.smoke else 2000, "--series", 100, "--samples", 1, "--in-flight", 32)


def checkpoint(folder, options):
    """Acknowledgements with 1 000 000 clients in the fleet table, while no checkpoint is made and while one always is."""
    clients = 2000 if options.smoke else 1_000_000
    bed = Bed(folder, clients)
    ingestd = bed.cluster.ingestd
    argv, result = list(ingestd.argv), {"clients": clients}
    ingestd.argv = argv + ["--checkpoint-interval", "24h", "--checkpoint-bytes", "1024GiB"]
    with bed:
        bed.submit("--rounds", 1, "--series", min(1000, clients), "--samples", 1)  # everybody has a row
        for name in ("without", "with"):
            run = bed.submit("--seconds", duration(options.seconds), "--series", 100, "--samples", 1, "--in-flight", 32)
            assert run["reports"] > 0, "nothing was acknowledged"
            result |= {f"{field}_{name}": run[field] for field in ("reports_per_s", "p50_ms", "p99_ms", "max_ms")}
            if name == "without":
                ingestd.stop()
                ingestd.argv = argv + ["--checkpoint-interval", "100ms"]
                ingestd.start()
        made = re.findall(r"event=checkpoint .*\bbytes=(\d+) .*\blongest_pause_us=(\d+)", ingestd.log())
    assert made, "no checkpoint was made"
    return {**result, "checkpoints": len(made), "checkpoint_bytes": max(int(size) for size, _ in made),
            "longest_pause_us": max(int(pause) for _, pause in made)}


def gateway_json(folder, options):
    """The documented JSON body by keep-alive HTTP, answered when durable; limit: the bare HTTP server."""
    with Bed(folder, 50 if options.smoke else 2000) as bed:
        bed.cluster.gateway.start()
        wait_until(lambda: bed.cluster.get_status(bed.cluster.manager_url + "/readyz") in (200, 503), "the gateway serves")
        wait_until(lambda: post_works(bed), "a report is taken")
        bare_port = free_port()
        bare = bed.daemon("bare", [str(BIN_DIR / "tests" / "bench" / "bench_bare_http"),
                                   "--listen", f"127.0.0.1:{bare_port}"])
        common = ("--clients", bed.clients, "--connections", options.connections, "--seconds",
                  duration(options.seconds))
        limit = load("http_load", "--address", f"127.0.0.1:{bare_port}", "--pids", bare.process.pid, *common)
        bare.stop()
        pids = f"{bed.cluster.gateway.process.pid},{bed.cluster.ingestd.process.pid}"
        result = load("http_load", "--address", f"127.0.0.1:{bed.cluster.ports['gateway']}", "--pids", pids, *common)
    assert result["failed"] == 0 and result["requests"] > 0
    result["limit_requests_per_s"] = limit["requests_per_s"]
    result["limit_cpu_us_per_request"] = limit["cpu_us_per_request"]
    result["limit_ratio"] = round(result["requests_per_s"] / limit["requests_per_s"], 3)
    return result


def post_works(bed):
    client_id, key = bed.clients.read_text().split("\n", 1)[0].split()
    return bed.cluster.post_client(client_id, key, {}).status_code == 200


def scrapes(bed, gzip, seconds):
    """Scrapes one after another for so long, at least three: the figures of all of them together."""
    cluster, pid, all_scrapes = bed.cluster, bed.cluster.exporter.process.pid, []
    before = cpu_s(pid)
    end = time.perf_counter() + seconds
    while len(all_scrapes) < 3 or time.perf_counter() < end:
        scrape = Scrape(cluster.ports["exporter"], cluster.metrics_token, gzip)
        assert scrape.status == 200 and scrape.text.count(b"\ntobogganing_client_bytes_sent{") == bed.count
        all_scrapes.append((scrape.series(), scrape.seconds, scrape.first_byte_s, len(scrape.body)))
        text = scrape.text
    series, times, first_bytes, sizes = zip(*all_scrapes)
    cpu = cpu_s(pid) - before
    return {"series": series[0], "per_s": sum(series) / sum(times), "per_cpu_s": sum(series) / cpu if cpu else 0,
            "first_byte_ms": statistics.median(first_bytes) * 1000, "body_bytes": sizes[-1], "text": text}


def scrape_bench(folder, options):
    """GET /metrics of 100 000 clients, identity and gzip; limits: memcpy and zlib level 1 of the same text."""
    with Bed(folder, options.clients or (1000 if options.smoke else 100000)) as bed:
        cluster = bed.cluster
        cluster.exporter.start()
        wait_until(lambda: cluster.get_status(cluster.exporter_url + "/readyz") == 200, "the exporter is ready")
        pid, token, port = cluster.exporter.process.pid, cluster.metrics_token, cluster.ports["exporter"]
        Scrape(port, token, False)
        without = rss_bytes(pid)
        started = time.perf_counter()
        bed.submit("--rounds", 1, "--series", min(1000, bed.count), "--samples", 1, "--in-flight", 8)
        wait_until(lambda: Scrape(port, token, False).text.count(b"\ntobogganing_client_bytes_sent{") == bed.count,
                   f"{bed.count} clients are in the exposition")
        converged_s = time.perf_counter() - started
        rss = (rss_bytes(pid) - without) / bed.count
        plain, gzip = scrapes(bed, False, options.seconds), scrapes(bed, True, options.seconds)
    text = plain.pop("text")
    assert plain["series"] >= FAMILIES * bed.count and gzip["series"] == plain["series"]
    copy_s, gzip_s = (bare(text, min(options.seconds, 2)) for bare in (bare_copy_s, bare_gzip_s))
    limit, gzip_limit = plain["series"] / copy_s, plain["series"] / gzip_s
    return {
        "clients": bed.count, "series": plain["series"], "series_per_s": round(plain["per_s"]),
        "series_per_cpu_s": round(plain["per_cpu_s"]), "gzip_series_per_s": round(gzip["per_s"]),
        "gzip_series_per_cpu_s": round(gzip["per_cpu_s"]), "first_byte_ms": round(plain["first_byte_ms"], 2),
        "gzip_first_byte_ms": round(gzip["first_byte_ms"], 2), "body_bytes": plain["body_bytes"],
        "gzip_body_bytes": gzip["body_bytes"], "rss_bytes_per_client": round(rss), "converged_s": round(converged_s, 2),
        "limit_memcpy_series_per_cpu_s": round(limit), "limit_ratio": round(plain["per_cpu_s"] / limit, 4),
        "limit_zlib_series_per_cpu_s": round(gzip_limit), "limit_gzip_ratio": round(gzip["per_cpu_s"] / gzip_limit, 3),
    }


def recovery(folder, options):
    """A start of ingestd's store: a checkpoint of 1 000 000 clients with an agent each, 150 MiB of journal; the checkpoint's pages."""
    folder.mkdir(parents=True)
    clients, journal = (5000, "1MiB") if options.smoke else (1000000, "150MiB")
    result = load("recovery", "--dir", folder, "--clients", clients, "--senders", clients, "--series", 1, "--samples", 10,
                  "--journal-bytes", journal)
    assert result["clients"] == clients and result["records"] > 0
    return result


def import_into(folder, registry, rows):
    """Seconds for a file of clients without keys, from tobogganctl's start to its end, into an empty registry."""
    cluster = Cluster(folder, registry=registry)
    cluster.state_dir.mkdir()
    cluster.ingestd.start()
    try:
        took = import_clients(cluster, folder / "clients.csv", "client_id,name,type,location,public_key", rows, "--keys-out",
                              str(folder / "keys.csv"))
        began = time.monotonic()
        exported = cluster.ctl("client", "export", "--with-key-hashes", timeout=600)
        assert exported.stdout.count("\n") == len(rows) + 1, exported.stderr
        return took, time.monotonic() - began
    finally:
        cluster.stop()
        cluster.remove()


def registry_import(folder, options):
    """tobogganctl client import of 100 000 clients whose keys are made, into SQLite and PostgreSQL; and the export."""
    count = 2000 if options.smoke else 100000
    rows = [f"client-{i:06d},device {i},{TYPES[i % 3]},us-east,{secrets.token_urlsafe(32)}" for i in range(count)]
    secrets.SystemRandom().shuffle(rows)
    result = {"clients": count}
    for registry in ("sqlite", "postgresql"):
        result[f"{registry}_s"], result[f"{registry}_export_s"] = (
            round(took, 3) for took in import_into(folder / registry, registry, rows))
    return result


BENCHES = {"ingest-agent": ingest_agent, "ingest-relay": ingest_relay, "gateway-json": gateway_json,
           "checkpoint": checkpoint,
           "scrape": scrape_bench, "recovery": recovery, "import": registry_import}


def parse():
    listing = "\n".join(f"  {name:14} {bench.__doc__}" for name, bench in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures the release build on this machine: one JSON object a line on stdout, progress on stderr.\n"
                    "A limit_… field is what the machine can do at best, measured in the same run.",
        epilog=f"benches:\n{listing}\n\nExit status: 0 when every bench ran and what it measured did happen.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="the benches to run (all)")
    parser.add_argument("--seconds", type=float, default=None, metavar="N", help="length of each measurement (10)")
    parser.add_argument("--connections", type=int, default=128, metavar="N", help="of gateway-json (128)")
    parser.add_argument("--clients", type=int, default=None, metavar="N", help="of scrape (100000)")
    parser.add_argument("--smoke", action="store_true", help="small and short: do the benches work?")
    parser.add_argument("--list", action="store_true", help="print the names of the benches")
    parser.add_argument("--bin-dir", metavar="DIR", help="measure a build that is there (builds build/release)")
    parser.add_argument("--no-install", action="store_true", help="don't install Debian packages")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"'{name}' is not a bench: {', '.join(BENCHES)}")
    if options.seconds is None:
        options.seconds = 1 if options.smoke else 10
    return options


def main():
    options = parse()
    if options.list:
        print("\n".join(BENCHES))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops the daemons on the way
    # Beside the build, where an fdatasync is one, and not in memory.
    place = ROOT / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory(dir=place) as folder:
        print(json.dumps({"bench": "machine", **machine(Path(folder))}), flush=True)
        for name in options.names or BENCHES:
            say(f"{name}: {BENCHES[name].__doc__}")
            try:
                print(json.dumps({"bench": name, **BENCHES[name](Path(folder) / name, options)}), flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                say(f"{name} failed: {error}")
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
