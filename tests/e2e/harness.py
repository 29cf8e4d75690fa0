"""Runs the real programs on free loopback ports in a folder of their own."""
import hashlib
import importlib
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import requests

from exposition import Exposition
from postgresql import Postgresql, PostgresqlRegistry, SqliteRegistry, shared_server
# What tests need beside a Cluster they import from here too.
from processes import (BIN_DIR, DEADLINE, PROGRAMS, ROOT, Daemon, binary, clean_environment, free_port,  # noqa: F401
                       lone_ingestd, own_address, sanitized, set_option, wait_until)
from sp import Rpc


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

    def ctl_fails(self, *arguments, status=1, part="", **options):
        """Runs what has to fail; returns what it said."""
        done = self.ctl(*arguments, **options)
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
        assert part in done.stderr, done.stderr
        return done.stderr

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

    def one_report(self, credential, client=None, headend=None, value=1):
        """A request with one sample of a client or a headend."""
        batch = self.pb.ingest.Batch(agent_id="py", boot_id=secrets.randbits(32), number=1)
        now = [int(time.time() * 1000)]
        if client:
            batch.clients.add(client_id=client, time_unix_ms=now, bytes_sent=[value])
        else:
            batch.headends.add(headend_id=headend, time_unix_ms=now, cpu_usage=[value])
        return self.pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[credential])

    def submit_one(self, credential, client=None, headend=None, source=None):
        """Reports one sample over RPC; returns "OK", or the code of its rejection, which must not repeat the credential."""
        with self.rpc(source=source) as rpc:
            response = rpc.submit(self.one_report(credential, client, headend))
        if not response.rejected:
            return "OK"
        (rejection,) = response.rejected
        assert rejection.retry_after_ms == 0 and (len(credential) < 8 or credential not in rejection.reason), rejection
        return self.pb.rpc.Code.Name(rejection.code).removeprefix("CODE_")

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

    def attempts(self, kind, result):
        """How many attempts with a kind of credential were counted."""
        return self.scrape().value("tobogganing_manager_auth_attempts_total", type=kind, result=result) or 0

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


def _flags(options):
    return [part for name, value in options.items() for part in (f"--{name}", value)]
