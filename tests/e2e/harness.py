"""Runs the real programs on free loopback ports in a folder of their own."""
import hashlib
import importlib
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import requests

from exposition import Exposition
from postgresql import Postgresql, PostgresqlRegistry, SqliteRegistry, shared_server
from sp import Rpc

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


def sanitized():
    """Are the programs built with a sanitizer? Those can't have other libraries loaded before theirs."""
    return b"__sanitizer" in Path(binary("tobogganing-ingestd")).read_bytes()


def load_protobuf(out):
    """Protobuf classes for Python, made from our .proto files by protoc: what a foreign agent would use."""
    files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    subprocess.run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={out}", *files], check=True)
    return import_protobuf(out)


def import_protobuf(folder):
    """The classes that load_protobuf made."""
    sys.path.insert(0, str(folder))
    names = ("rpc", "ingest", "bus", "health", "registry", "certificates", "signing_keys", "reports", "process", "journal")
    modules = {name: importlib.import_module(f"tobogganing.v1.{name}_pb2") for name in names}
    return SimpleNamespace(folder=folder, **modules)


def clean_environment(**more):
    """The environment for our programs: nothing of the caller's that configures them."""
    ours = ("TOBOGGANING_", "ADMIN_TOKEN", "CLUSTER_TOKEN", "METRICS_TOKEN", "INGEST_URL", "EXPORTER_URL", "BUS_URL",
            "CLIENT_ID", "API_KEY", "HEADEND_", "NOTIFY_SOCKET", "JWKS_", "CA_CERT_FILE", "CA_KEY_FILE", "PG")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment.update(more)
    return environment


class _FromAddress(requests.adapters.HTTPAdapter):
    """Connects from one address."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def session_from(address):
    """HTTP from one of this machine's loopback addresses: wrong credentials slow down the address that they come from."""
    session = requests.Session()
    session.mount("http://", _FromAddress(address))
    return session


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

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


def _registry(kind, folder):
    """What a cluster's registry is in: "sqlite", "postgresql", or a server of the test's own."""
    if kind == "sqlite":
        return SqliteRegistry()
    if kind == "postgresql":
        kind = shared_server()
    assert isinstance(kind, Postgresql), f"TOB_TEST_REGISTRY: '{kind}' is not sqlite or postgresql"
    return PostgresqlRegistry(kind, folder)


class Cluster:
    """ingestd, gateway and exporter, with helpers that speak to them; and more ingestd and exporters beside these.

    registry: "sqlite" (a file for each ingestd), "postgresql" (a database for all of them), or a Postgresql that the test
    stops and starts. Without it the environment says which: TOB_TEST_REGISTRY."""

    def __init__(self, folder, pb=None, ingestd_options=(), gateway_options=(), exporter_options=(), registry=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.registry = _registry(registry or os.environ.get("TOB_TEST_REGISTRY") or "sqlite", self.folder)
        self.pb = pb
        self.state_dir = self.folder / "state"
        self.admin_token, self.cluster_token, self.metrics_token = (secrets.token_hex(16) for _ in range(3))
        ports = {name: free_port() for name in ("ingest", "bus", "gateway", "exporter")}
        self.ports = ports
        self.ingest_url = f"tcp://127.0.0.1:{ports['ingest']}"
        self.bus_url = f"tcp://127.0.0.1:{ports['bus']}"
        self.manager_url = f"http://127.0.0.1:{ports['gateway']}"
        self.exporter_url = f"http://127.0.0.1:{ports['exporter']}"
        self.source = None  # the address that calls and requests come from; None: any
        self.session = requests.Session()
        self.ingestd = self._ingestd("ingestd", self.ingest_url, self.bus_url, self.state_dir, ingestd_options)
        self.exporter = self._exporter("exporter", ports["exporter"], self.ingest_url, self.bus_url, exporter_options)
        self.gateway = self._daemon(
            "gateway", ["--listen", f"127.0.0.1:{ports['gateway']}", "--ingest", self.ingest_url,
                        "--exporter", self.exporter_url, *gateway_options], CLUSTER_TOKEN=self.cluster_token)
        self.daemons = [self.ingestd, self.exporter, self.gateway]
        self.exporters = [self.exporter]
        self.ingestds = [self.ingestd]

    def _ingestd(self, name, url, bus_url, state_dir, options):
        daemon = self._daemon(name, ["--listen", url, "--bus-listen", bus_url, "--state-dir", str(state_dir),
                                     *self.registry.options(), *options],
                              ADMIN_TOKEN=self.admin_token, CLUSTER_TOKEN=self.cluster_token)
        daemon.url, daemon.bus_url, daemon.state_dir = url, bus_url, state_dir
        return daemon

    def _exporter(self, name, port, ingest_urls, bus_urls, options):
        daemon = self._daemon(name, ["--listen", f"127.0.0.1:{port}", "--ingest", ingest_urls, "--bus", bus_urls, *options],
                              METRICS_TOKEN=self.metrics_token, CLUSTER_TOKEN=self.cluster_token)
        daemon.url = f"http://127.0.0.1:{port}"
        return daemon

    def add_ingestd(self, *options, host="127.0.0.1", port=None, bus_port=None):
        """One more ingestd with a state folder of its own, not started. A SQLite registry is its own too: copy_registry."""
        name = f"ingestd-{len(self.ingestds) + 1}"
        daemon = self._ingestd(name, f"tcp://{host}:{port or free_port()}", f"tcp://{host}:{bus_port or free_port()}",
                               self.folder / f"state-{len(self.ingestds) + 1}", options)
        self.ingestds.append(daemon)
        self.daemons.insert(len(self.ingestds) - 1, daemon)
        return daemon

    def add_exporter(self, *options):
        """One more exporter of the same ingestd, not started."""
        daemon = self._exporter(f"exporter-{len(self.exporters) + 1}", free_port(), self.ingest_url, self.bus_url, options)
        self.exporters.append(daemon)
        self.daemons.insert(len(self.ingestds) + len(self.exporters) - 1, daemon)
        return daemon

    def use_state_dir(self, folder):
        """Another place for the first ingestd's state."""
        self.state_dir = self.ingestd.state_dir = folder
        set_option(self.ingestd, "--state-dir", str(folder))

    def dial_all(self, exporters=None):
        """Gateway and exporters shall know every ingestd from their next start on."""
        ingest, bus = (",".join(getattr(one, kind) for one in self.ingestds) for kind in ("url", "bus_url"))
        set_option(self.gateway, "--ingest", ingest)
        for exporter in exporters or self.exporters:
            set_option(exporter, "--ingest", ingest)
            set_option(exporter, "--bus", bus)

    def copy_registry(self):
        """Every other ingestd gets the first one's registry, if they don't share it. None of them may be running."""
        if isinstance(self.registry, PostgresqlRegistry):
            return
        for other in self.ingestds[1:]:
            assert not other.running() and not self.ingestd.running()
            other.state_dir.mkdir(mode=0o700, exist_ok=True)
            for path in self.state_dir.iterdir():
                if path.name.startswith("registry.db"):
                    copy = other.state_dir / path.name
                    copy.write_bytes(path.read_bytes())
                    copy.chmod(0o600)

    def registrars(self):
        """Those ingestd that have to be told so that all of them know."""
        return self.ingestds[:1] if isinstance(self.registry, PostgresqlRegistry) else self.ingestds

    def register(self, client_ids):
        """Writes clients into the first ingestd's database, which a call for each would take too long for, and returns
        their keys. ingestd must have run once, and must not be running."""
        assert not self.ingestd.running()
        keys = {client_id: f"tobk_{secrets.token_urlsafe(32)}" for client_id in client_ids}
        now_ms = int(time.time() * 1000)
        rows = [(client_id, client_id, "native", hashlib.sha256(key.encode()).digest(), now_ms)
                for client_id, key in keys.items()]
        columns = "clients (id, name, type, key_hash, created_unix_ms)"
        if isinstance(self.registry, PostgresqlRegistry):
            lines = ("\t".join((*row[:3], "\\\\x" + row[3].hex(), str(row[4]))) + "\n" for row in rows)
            self.registry.execute(f"COPY {columns} FROM STDIN;\n{''.join(lines)}\\.\n")
            return keys
        database = sqlite3.connect(self.state_dir / "registry.db")
        with database:
            database.executemany(f"INSERT INTO {columns} VALUES (?, ?, ?, ?, ?)", rows)
        database.close()
        return keys

    def prepare(self, client_ids):
        """Makes the first ingestd's database, registers clients in it, and copies it to the others. Returns the keys."""
        self.state_dir.mkdir(exist_ok=True)
        self.ingestd.start()
        self.ingestd.stop()
        keys = self.register(client_ids)
        self.copy_registry()
        return keys

    def _daemon(self, name, options, **env):
        return Daemon(name, [binary("tobogganing-" + name.split("-")[0]), *options], clean_environment(**env),
                      self.folder / f"{name}.log")

    def start(self):
        self.state_dir.mkdir(exist_ok=True)
        for daemon in self.daemons:
            daemon.start()
        self.wait_ready()
        return self

    def wait_ready(self, timeout=DEADLINE):
        """Every gateway and exporter that runs is ready."""
        running = [(self.gateway, self.manager_url), *((exporter, exporter.url) for exporter in self.exporters)]
        for daemon, url in running:
            if daemon.process:
                wait_until(lambda u=url: self.get_status(u + "/readyz") == 200, f"{daemon.name} is ready", timeout)

    def stop(self):
        failures = []
        for daemon in reversed(self.daemons):
            try:
                daemon.stop()
            except AssertionError as error:
                failures.append(str(error))
        self.session.close()
        assert not failures, "\n".join(failures)

    def remove(self):
        """After stop: what is not in its folder."""
        self.registry.remove()

    @staticmethod
    def get_status(url):
        try:
            return requests.get(url, timeout=DEADLINE).status_code
        except requests.RequestException:
            return None

    def come_from(self, address):
        """From now on reports and calls come from this address."""
        self.session.close()
        self.source, self.session = address, session_from(address)

    # --- the registry ---

    def ctl(self, *arguments, env=None, timeout=DEADLINE):
        """Runs tobogganctl as an admin and returns what it did."""
        environment = clean_environment(INGEST_URL=self.ingest_url, ADMIN_TOKEN=self.admin_token)
        environment.update(env or {})
        return subprocess.run([binary("tobogganctl"), *arguments], env=environment, capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL, check=False)

    def ctl_ok(self, *arguments):
        done = self.ctl(*arguments)
        assert done.returncode == 0, f"tobogganctl {' '.join(arguments)}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def ctl_json(self, *arguments):
        return json.loads(self.ctl_ok(*arguments, "--json"))

    def add_cluster(self, cluster_id, region="", datacenter=""):
        return self.ctl_json("cluster", "add", "--id", cluster_id, "--region", region, "--datacenter", datacenter)

    def add_client(self, client_id, **options):
        """Registers a client and returns its API key."""
        return self.ctl_json("client", "add", "--id", client_id, *_flags(options))["api_key"]

    def add_headend(self, headend_id, **options):
        """Registers a headend and returns a token for it."""
        self.ctl_ok("headend", "add", "--id", headend_id, *_flags(options))
        return self.headend_token(headend_id)

    def headend_token(self, headend_id, *options):
        return self.ctl_ok("headend", "token", headend_id, *options).strip()

    # --- reports ---

    def post(self, path, token, body, timeout=DEADLINE, headers=None, session=None):
        """POSTs JSON (a value, or raw text or bytes) to the gateway."""
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        if isinstance(data, str):
            data = data.encode()
        all_headers = {"Content-Type": "application/json"}
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        all_headers.update(headers or {})
        return (session or self.session).post(self.manager_url + path, data=data, timeout=timeout,
                                              headers={k: v for k, v in all_headers.items() if v is not None})

    def post_client(self, client_id, key, body, **options):
        return self.post(f"/api/v1/clients/{client_id}/metrics", key, body, **options)

    def post_headend(self, headend_id, token, body, **options):
        return self.post(f"/api/v1/headends/{headend_id}/metrics", token, body, **options)

    def rpc(self, bearer=None, timeout=DEADLINE, url=None, source=None):
        return Rpc(url or self.ingest_url, self.pb, bearer=bearer, timeout=timeout, source=source or self.source)

    def agent(self, *arguments, stdin=None, env=None, timeout=DEADLINE):
        """Runs the agent to its end."""
        environment = clean_environment(INGEST_URL=self.ingest_url)
        environment.update(env or {})
        return subprocess.run([binary("tobogganing-agent"), *arguments], env=environment, input=stdin,
                              stdin=None if stdin is not None else subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, check=False)

    # --- the exposition ---

    def get_metrics(self, base=None, token=None, **options):
        headers = {"Authorization": f"Bearer {token or self.metrics_token}", **options.pop("headers", {})}
        return requests.get((base or self.manager_url) + "/metrics", headers=headers, timeout=DEADLINE, **options)

    def scrape(self, base=None):
        response = self.get_metrics(base)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        response.encoding = "utf-8"
        return Exposition(response.text)

    def wait_value(self, name, expected, /, timeout=DEADLINE, **labels):
        """Waits until the scraped value of a series is `expected`; returns that scrape."""
        seen = []

        def right():
            scrape = self.scrape()
            seen[:] = [scrape.value(name, **labels)]
            return scrape if seen[0] == expected else None
        try:
            return wait_until(right, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"{name}{labels} is {seen[0]}, not {expected}") from None


def set_option(daemon, name, value):
    """Another value for an option that the daemon is started with."""
    daemon.argv[daemon.argv.index(name) + 1] = value


def _flags(options):
    return [part for name, value in options.items() for part in (f"--{name}", value)]
