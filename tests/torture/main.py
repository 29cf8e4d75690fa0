"""The long forms of the tests that try to lose something: tests/torture/run."""
import argparse
import importlib
import inspect
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[0:1] = [str(HERE.parent), str(HERE.parent / "e2e")]

from harness import BIN_DIR, Cluster, load_protobuf, sanitized  # noqa: E402
from sp import RpcError  # noqa: E402

LOG_TAIL = 3000
PRELOADED = ("clocks", "backpressure", "dns")

# Name: (module, what --cycles is called there, its default, what it does)
RUNS = {
    "kill": ("kill", "cycles", 100, "kill -9 at random moments while writers submit over RPC and HTTP"),
    "bus-loss": ("bus_loss", None, None, "a million deltas to an exporter that is paused, cut and throttled"),
    "clocks": ("clocks", "rounds", 5, "the wall clock is stepped by days, while running and across restarts"),
    "rolling": ("rolling", "rounds", 10, "two ingestd restarted in turn behind one gateway: no request fails"),
    "consumer": ("consumer", "cycles", 100, "a consumer gets every sample exactly once through kills of either side"),
    "backpressure": ("backpressure", "rounds", 10, "more than memory and disk can take"),
    "several": ("several", "rounds", 5, "two ingestd, exporters of everything, shards"),
    "dns": ("names", "rounds", 3, "addresses behind a name come and go"),
    "sync-modes": ("sync_modes", "cycles", 25, "kill -9 in every mode of --journal-sync"),
}
# Name: (program, arguments of the long form, what it does)
PROGRAMS = {
    "syscalls": ("torture_syscalls", ("all",), "every system call on journal and checkpoint fails, or is the last"),
    "damage": ("torture_damage", (), "files truncated at every byte, every bit flipped"),
    "model": ("torture_model", (), "random operations against a plain model; --cycles: sequences"),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Clusters:
    """Makes clusters below a folder, stops them, and shows their logs when something went wrong."""

    def __init__(self, folder, pb):
        self.folder, self.pb, self.made = folder, pb, []

    def __call__(self, start=True, **options):
        cluster = Cluster(self.folder / f"cluster-{len(self.made)}", self.pb, **options)
        self.made.append(cluster)
        return cluster.start() if start else cluster

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        failures = []
        for cluster in self.made:
            for daemon in cluster.daemons:
                if kind and daemon.log_path.exists():
                    say(f"--- log of {daemon.name}\n{daemon.log_path.read_text(errors='replace')[-LOG_TAIL:]}")
            try:
                cluster.stop()
            except AssertionError as failure:
                failures.append(str(failure))
        if failures and not kind:
            raise AssertionError("\n".join(failures))
        for failure in failures:
            say(failure)


def run_scenario(name, options, folder, pb):
    module_name, count_name, default, _ = RUNS[name]
    run = importlib.import_module(f"torture.{module_name}").run
    counts = {count_name: options.cycles or default} if count_name else {}
    assert not counts or count_name in inspect.signature(run).parameters
    with Clusters(folder, pb) as make_cluster:
        return run(make_cluster, say, options.seed, **counts)


def run_program(name, options):
    program, arguments, _ = PROGRAMS[name]
    extra = options.arguments or arguments
    if name == "model" and not options.arguments:
        extra = [str(options.seed), *([str(options.cycles)] if options.cycles else [])]
    sys.stdout.flush()
    done = subprocess.run([str(BIN_DIR / "tests" / "torture" / program), *extra], stdout=sys.stderr, check=False)
    assert done.returncode == 0, f"{program} {' '.join(extra)} ended with {done.returncode}"
    return {}


def parse():
    everything = {**{name: run[3] for name, run in RUNS.items()}, **{name: run[2] for name, run in PROGRAMS.items()}}
    listing = "\n".join(f"  {name:14} {what}" + (f" ({RUNS[name][1]}: {RUNS[name][2]})" if name in RUNS and RUNS[name][1] else "")
                        for name, what in everything.items())
    parser = argparse.ArgumentParser(
        prog="tests/torture/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tries to make the programs lose or invent something. Short forms of all of it are in tests/run.\n"
                    "One JSON object for each run on stdout, progress and logs of what failed on stderr.",
        epilog=f"runs:\n{listing}\n\nexamples:\n  tests/torture/run kill --cycles 1000\n"
               "  tests/torture/run kill --seed 42 --cycles 50\n  tests/torture/run model --seed 42 --cycles 1\n"
               "  tests/torture/run syscalls -- always kill\n\n"
               "Exit status: 0 when nothing was lost; 1 when something was; 2 for a wrong option.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to run (everything)")
    parser.add_argument("--cycles", type=int, metavar="N", help="kills, rounds or sequences; the default is behind each name")
    parser.add_argument("--seed", type=int, metavar="N", help="of the random choices; printed with each run")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--keep", action="store_true", help="leave the folder with state and logs")
    parser.add_argument("--preset", metavar="PRESET", help="the build to use: release (default), dev, asan or tsan")
    parser.add_argument("--bin-dir", metavar="DIR", help="a build that is there")
    parser.add_argument("--no-install", action="store_true", help="don't install Debian packages")
    own, rest = split(sys.argv[1:])
    options = parser.parse_args(own)
    options.arguments = rest
    for name in options.names:
        if name not in everything:
            parser.error(f"'{name}' is not a run: {', '.join(everything)}")
    if rest and (len(options.names) != 1 or options.names[0] not in PROGRAMS):
        parser.error(f"arguments after -- are for one of {', '.join(PROGRAMS)}")
    if options.cycles is not None and options.cycles < 1:
        parser.error("--cycles: at least 1")
    options.everything = everything
    return options


def split(arguments):
    """What is before and behind --."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1:]


def run_one(name, options, folder, pb):
    """The result as a JSON object; what failed has a reason."""
    result = {"run": name, "seed": options.seed}
    if name in PRELOADED and sanitized():
        return {**result, "skipped": "a sanitizer's runtime has to be loaded before every other library"}
    started = time.monotonic()
    say(f"{name}: {options.everything[name]} (seed {options.seed})")
    try:
        done = run_scenario(name, options, folder, pb) if name in RUNS else run_program(name, options)
        result.update(done)
    except (AssertionError, OSError, RpcError, subprocess.SubprocessError) as error:
        say(f"{name} failed: {error}")
        result["failed"] = str(error).splitlines()[0] if str(error) else repr(error)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def main():
    options = parse()
    if options.list:
        print("\n".join(options.everything))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops the daemons on the way
    os.environ.setdefault("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
    os.environ.setdefault("TSAN_OPTIONS", f"exitcode=99 suppressions={ROOT / 'tests' / 'tsan.supp'}")
    given = options.seed
    # Beside the build, where an fdatasync is one, and not in memory.
    place = ROOT / "build" / "torture"
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place))
    failed = []
    try:
        pb = load_protobuf(folder)
        for name in options.names or options.everything:
            options.seed = given if given is not None else random.randrange(1 << 32)
            result = run_one(name, options, folder / name, pb)
            print(json.dumps(result), flush=True)
            failed += [name] if "failed" in result else []
    finally:
        if options.keep:
            say(f"state and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(f"failed: {', '.join(failed)}" if failed else "nothing was lost")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
