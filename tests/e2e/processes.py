"""Our programs as processes: where they are, how they are started and stopped, and what one waits for meanwhile."""
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN_DIR = Path(os.environ.get("TOB_BIN_DIR", ROOT / "build" / "dev"))
# Sanitizers make everything slower; deadlines only matter when something is wrong.
DEADLINE = 60.0

PROGRAMS = {
    "tobogganing-ingestd": "ingestd",
    "tobogganing-gateway": "gateway",
    "tobogganing-exporter": "exporter",
    "tobogganing-agent": "agent",
    "tobogganctl": "ctl",
}


def binary(name):
    """Path of a program, in a build folder or in one where they are installed."""
    for candidate in (BIN_DIR / PROGRAMS[name] / name, BIN_DIR / name):
        if candidate.exists():
            return str(candidate)
    raise FileNotFoundError(f"{name} is not under {BIN_DIR}; build it, or set TOB_BIN_DIR")


def wait_until(condition, what="the condition", timeout=DEADLINE):
    """Polls until the condition returns something true, and returns it."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)


_given_ports = set()


def free_port():
    """A free loopback port below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.add(port)
        return port


_addresses = itertools.count(1)


def own_address():
    """A loopback address that nobody has come from yet: wrong credentials slow down the address that they come from."""
    number = next(_addresses)
    return f"127.1.{number >> 8}.{number & 255}"


def sanitized():
    """Are the programs built with a sanitizer? Those can't have other libraries loaded before theirs."""
    return b"__sanitizer" in Path(binary("tobogganing-ingestd")).read_bytes()


def clean_environment(**more):
    """The environment for our programs: nothing of the caller's that configures them."""
    ours = ("TOBOGGANING_", "ADMIN_TOKEN", "CLUSTER_TOKEN", "METRICS_TOKEN", "INGEST_URL", "EXPORTER_URL", "BUS_URL",
            "CLIENT_ID", "API_KEY", "HEADEND_", "NOTIFY_SOCKET", "JWKS_", "CA_CERT_FILE", "CA_KEY_FILE", "PG")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment.update(more)
    return environment


class Daemon:
    """One process that serves until it is stopped; its log is kept."""

    def __init__(self, name, argv, env, log, ready_event="event=ready"):
        self.name, self.argv, self.env, self.log_path, self.ready_event = name, argv, env, Path(log), ready_event
        self.process = None
        self.log_start = 0  # where the log of the present process starts

    def start(self, wait=True):
        assert self.process is None, f"{self.name} runs already"
        self.log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait_ready()
        return self

    def log(self):
        """What the present process has logged."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_ready(self):
        def ready():
            assert self.running(), f"{self.name} ended with {self.process.returncode}:\n{self.log()[-2000:]}"
            return self.ready_event in self.log()
        wait_until(ready, f"{self.name} is ready")

    def stop(self):
        """Stops it as an operator would, and expects success."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not stop:\n{self.log()[-2000:]}") from None
        assert status == 0, f"{self.name} ended with {status}:\n{self.log()[-4000:]}"

    def kill(self):
        """kill -9."""
        process, self.process = self.process, None
        assert process.poll() is None, f"{self.name} had ended by itself with {process.returncode}"
        process.kill()
        process.wait(DEADLINE)

    def start_fails(self):
        """Starts it, which it has to refuse; returns its status and what it said."""
        self.start(wait=False)
        status = self.process.wait(DEADLINE)
        self.process = None
        said = self.log()
        assert status not in (0, 99) and self.ready_event not in said, f"{self.name} ended with {status}:\n{said[-2000:]}"
        return status, said

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


def set_option(daemon, name, value):
    """Another value for an option that the daemon is started with."""
    daemon.argv[daemon.argv.index(name) + 1] = value


def lone_ingestd(state_dir, *options, **env):
    """An ingestd of no cluster, not started."""
    state_dir.mkdir(mode=0o700, exist_ok=True)
    argv = [binary("tobogganing-ingestd"), "--listen", "tcp://127.0.0.1:0", "--bus-listen", "tcp://127.0.0.1:0",
            "--state-dir", str(state_dir), *options]
    environment = clean_environment(**{"ADMIN_TOKEN": "a" * 16, "CLUSTER_TOKEN": "b" * 16, **env})
    return Daemon("ingestd", argv, environment, state_dir.with_suffix(".log"))
