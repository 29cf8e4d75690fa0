"""Nothing secret gets out: not into logs, arguments, answers, the audit log, the journal, the exposition or a core dump."""
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from harness import DEADLINE, Daemon, binary, clean_environment, lone_ingestd, wait_until
from sp import RpcError
from tokens import EcIssuer

PROGRAMS = ("ingestd", "gateway", "exporter", "agent")


class Keeper:
    """All secrets there are, and all that was answered."""

    def __init__(self):
        self.secrets = {}
        self.answers = []

    def add(self, name, secret):
        assert len(secret) >= 16
        self.secrets[name] = secret
        return secret

    def found_in(self, text):
        text = text if isinstance(text, bytes) else text.encode()
        return [name for name, secret in self.secrets.items() if secret.encode() in text]


def key_lines(pem):
    """The longest line of a PEM private key: enough to know it by."""
    return max((line for line in pem.splitlines() if not line.startswith("-")), key=len)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request, make_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    keeper = Keeper()
    issuer = EcIssuer(folder, "theirs")
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [issuer.jwk]}))
    registry = request.getfixturevalue("server") if request.param == "postgresql" else "sqlite"
    cluster = make_cluster(start=False, registry=registry, ingestd_options=["--jwks-file", str(jwks)])
    if request.param == "postgresql":
        # The password in the URL, in the environment: the harness's own way is a file.
        url = cluster.ingestd.argv[cluster.ingestd.argv.index("--registry") + 1]
        password = keeper.add("the database's password", registry.password)
        for option in ("--registry", "--registry-password-file"):
            at = cluster.ingestd.argv.index(option)
            del cluster.ingestd.argv[at:at + 2]
        cluster.ingestd.env["TOBOGGANING_REGISTRY"] = url.replace("@", f":{password}@", 1)
    for name in ("admin", "cluster", "metrics"):
        keeper.add(f"the {name} token", getattr(cluster, f"{name}_token"))
        # In a file too, with a comment, beside the one in the environment.
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(f"# {name}s\n{keeper.add(f'the second {name} token', secrets.token_hex(16))} bob # his\n")
        for daemon in cluster.daemons:
            if f"{name.upper()}_TOKEN" in daemon.env:
                daemon.env[f"{name.upper()}_TOKEN_FILE"] = str(path)
    for daemon in cluster.daemons:
        daemon.argv += ["--log-level", "debug"]
    cluster.keeper, cluster.issuer, cluster.engine, cluster.server = keeper, issuer, request.param, registry
    keeper.add("the issuer's private key", issuer.private_jwk["d"])
    cluster.start()
    live(cluster, folder)
    return cluster


def http(cluster, method, path, token, body=None):
    response = cluster.session.request(method, cluster.manager_url + path, timeout=DEADLINE,
                                       headers={"Authorization": f"Bearer {token}"},
                                       **({"json": body} if body is not None else {}))
    return response


def refused(cluster, response):
    """An error's answer, which must not hold a secret; answers that hand one out are not looked at."""
    assert response.status_code >= 400, response.text
    cluster.keeper.answers.append(response.text + str(response.headers))
    return response


def expect_rpc_error(cluster, bearer, method, request=None):
    with cluster.rpc(bearer=bearer) as rpc:
        with pytest.raises(RpcError) as failure:
            rpc.call_bytes(method, request.SerializeToString() if request else b"")
    cluster.keeper.answers.append(failure.value.message)


def live(cluster, folder):
    """Everything that has to do with credentials, right and wrong, at every door."""
    keeper, pb = cluster.keeper, cluster.pb
    wrong = keeper.add("a wrong token", "wrong-" + secrets.token_hex(16))
    cluster.add_cluster("k1")
    cluster.ctl_ok("cluster", "add", "--id", "k2", "--headend-url", "https://k2.example.org")
    key = keeper.add("c1's key", cluster.add_client("c1"))
    token = keeper.add("h1's token", cluster.add_headend("h1", cluster="k1"))
    keeper.add("the signature of h1's token", token.rsplit(".", 1)[1])
    foreign = keeper.add("h1's token of another issuer", cluster.issuer.token())
    report = {"metrics": {"bytes_sent": 1, "cpu_usage": 2}}
    assert cluster.post_client("c1", key, report).status_code == 200
    for good in (token, foreign):
        assert cluster.post_headend("h1", good, report).status_code == 200
    for bad in (wrong, key[:-1] + ("A" if key[-1] != "A" else "B"), token, keeper.secrets["the admin token"]):
        refused(cluster, cluster.post_client("c1", bad, report))
        refused(cluster, http(cluster, "GET", "/api/v1/clients/c1/metrics", bad))
    for bad in (wrong, token[:-4] + "AAAA", key):
        refused(cluster, cluster.post_headend("h1", bad, report))
        expect_rpc_error(cluster, bad, "/tobogganing.v1.Registry/HeartbeatCluster",
                         pb.registry.HeartbeatClusterRequest(cluster_id="k1"))
    # A secret where it does not belong.
    refused(cluster, cluster.post_client("c1", key, key))
    refused(cluster, cluster.post_client("c1", key, {"metrics": {"bytes_sent": key}}))
    refused(cluster, cluster.post_client(f"c1-{key}-" + "x" * 128, key, report))
    refused(cluster, http(cluster, "GET", f"/api/v1/nothing/{wrong}", key))
    for method in ("Registry/ListClients", "Registry/ListAudit", "Bus/Snapshot", "Certificates/List", "SigningKeys/List"):
        for bad in (wrong, key, token, keeper.secrets["the metrics token"]):
            expect_rpc_error(cluster, bad, f"/tobogganing.v1.{method}")
    for bad in (wrong, keeper.secrets["the admin token"], key):
        response = cluster.get_metrics(token=bad)
        assert response.status_code == 401
        keeper.answers.append(response.text)
    admin_acts(cluster, wrong)
    agents(cluster, key, token, folder)


def admin_acts(cluster, wrong):
    keeper = cluster.keeper
    admin = keeper.secrets["the second admin token"]
    refused(cluster, http(cluster, "GET", "/api/v1/clients", wrong))
    made = http(cluster, "POST", "/api/v1/clients/register", admin,
                {"name": "n", "type": "docker", "public_key": "pk", "client_id": "c2"})
    assert made.status_code in (200, 201), made.text
    second = keeper.add("c2's key", made.json()["api_key"])
    keeper.add("the private key of c2's certificate", key_lines(made.json()["certificates"]["key"]))
    rotated = http(cluster, "POST", "/api/v1/clients/c2/rotate-key", second, {})
    assert rotated.status_code == 200, rotated.text
    keeper.add("c2's new key", rotated.json()["new_api_key"])
    refused(cluster, http(cluster, "POST", "/api/v1/clients/c2/rotate-key", wrong, {}))
    issued = http(cluster, "POST", "/api/v1/headends/h1/token", admin, {})
    assert issued.status_code == 200, issued.text
    keeper.add("h1's second token", issued.json()["token"])
    with cluster.rpc(bearer=cluster.admin_token) as rpc:
        rpc.call("/tobogganing.v1.SigningKeys/Rotate", cluster.pb.signing_keys.RotateSigningKeyRequest(),
                 cluster.pb.signing_keys.SigningKey)
    assert http(cluster, "POST", "/api/v1/clients/c2/revoke", admin, {}).status_code == 200
    assert http(cluster, "DELETE", "/api/v1/clients/c2", admin).status_code in (200, 204)
    for arguments in (("client", "list"), ("client", "add", "--id", "c1"), ("headend", "token", "nobody")):
        done = cluster.ctl(*arguments, env={"ADMIN_TOKEN": wrong if arguments[1] == "list" else admin})
        assert done.returncode != 0
        keeper.answers.append(done.stdout + done.stderr)


def agents(cluster, key, token, folder):
    """Once with the right credential and once with another's; their logs are answers too."""
    path = folder / "agent-key"
    path.touch(mode=0o600)
    for credential in (key, token):
        path.write_text(credential + "\n")
        done = cluster.agent("client", "--client-id", "c1", "--api-key-file", str(path), "--interface", "lo", "--once",
                             "--log-level", "debug")
        assert (done.returncode == 0) == (credential == key), done.stderr
        cluster.keeper.answers.append(done.stdout + done.stderr)
    line = json.dumps({"client_id": "c1", "api_key": token, "metrics": {"bytes_sent": 1}})
    for text in (line, line[:-1]):
        done = cluster.agent("client", "--from-stdin", "--log-level", "debug", stdin=text + "\n")
        assert done.returncode != 0
        cluster.keeper.answers.append(done.stdout + done.stderr)


def test_no_secret_is_in_an_answer_that_refuses(fleet):
    assert len(fleet.keeper.answers) > 40
    for answer in fleet.keeper.answers:
        assert not fleet.keeper.found_in(answer), answer


def test_no_secret_is_in_a_log(fleet):
    for daemon in fleet.daemons:
        text = daemon.log_path.read_bytes()
        assert b"event=ready" in text
        assert not fleet.keeper.found_in(text), daemon.name


def test_no_secret_is_in_the_arguments(fleet):
    for daemon in fleet.daemons:
        arguments = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
        assert b"--listen" in arguments
        assert not fleet.keeper.found_in(arguments), daemon.name


def test_no_secret_is_in_the_exposition(fleet):
    text = fleet.scrape().text if hasattr(fleet.scrape(), "text") else fleet.get_metrics().text
    assert "tobogganing_manager_auth_attempts_total" in text
    assert not fleet.keeper.found_in(text)


def test_the_audit_log_says_what_was_done_and_by_whom_and_no_secret(fleet):
    with fleet.rpc(bearer=fleet.admin_token) as rpc:
        log = rpc.call("/tobogganing.v1.Registry/ListAudit", fleet.pb.registry.ListAuditRequest(),
                       fleet.pb.registry.ListAuditResponse)
    acts = {(entry.who, entry.action) for entry in log.entries}
    assert ("admin bob", "client.delete") in acts  # the name in the token file
    assert ("client c2", "client.rotate_key") in acts
    assert any(re.fullmatch("admin token [0-9a-f]{8}", who) and action == "signing_key.rotate" for who, action in acts)
    assert not fleet.keeper.found_in(log.SerializeToString())
    assert not fleet.keeper.found_in(str(log))


def test_no_list_shows_a_secret(fleet):
    pb = fleet.pb
    with fleet.rpc(bearer=fleet.admin_token) as rpc:
        for method, request in (("Registry/ListClients", pb.registry.ListRequest()),
                                ("Registry/ListHeadends", pb.registry.ListRequest()),
                                ("Registry/ListClusters", pb.registry.ListRequest()),
                                ("Certificates/List", pb.certificates.ListCertificatesRequest()),
                                ("Certificates/GetAuthority", pb.certificates.GetAuthorityRequest()),
                                ("SigningKeys/List", pb.signing_keys.ListSigningKeysRequest()),
                                ("SigningKeys/GetJwks", pb.signing_keys.GetJwksRequest())):
            answer = rpc.call_bytes(f"/tobogganing.v1.{method}", request.SerializeToString())
            assert answer and not fleet.keeper.found_in(answer), method
            assert b"PRIVATE KEY" not in answer and b'"d":' not in answer, method


def test_the_public_keys_are_public_and_nothing_else(fleet):
    response = fleet.session.get(fleet.manager_url + "/.well-known/jwks.json", timeout=DEADLINE)
    assert response.status_code == 200
    keys = response.json()["keys"]
    assert len(keys) == 2  # one was rotated
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_the_journal_holds_no_credential(fleet):
    files = [path for path in (fleet.state_dir / "journal").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not fleet.keeper.found_in(path.read_bytes()), path


def test_the_database_holds_no_key_or_token_in_clear(fleet):
    """Of our own signing keys it has the private halves: they are what its file's mode is for."""
    if fleet.engine == "sqlite":
        texts = [path.read_bytes() for path in fleet.state_dir.glob("registry.db*")]
        assert any(b"signing_keys" in text for text in texts)
    else:
        tables = [row[0] for row in fleet.registry.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert "clients" in tables
        texts = ["\n".join(map(str, fleet.registry.execute(f"SELECT * FROM {table}"))) for table in tables]
    for text in texts:
        assert not fleet.keeper.found_in(text)


def test_files_of_the_state_are_for_their_owner_only(fleet):
    paths = list(fleet.state_dir.rglob("*"))  # the folder itself is the harness's
    assert len(paths) > 3
    for path in paths:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, f"{path} {mode:o}"


def test_no_secret_is_logged_while_the_database_is_away(fleet):
    if fleet.engine != "postgresql":
        pytest.skip("a file is never away")
    fleet.server.stop()
    try:
        wait_until(lambda: "event=registry_away" in fleet.ingestd.log(), "ingestd sees that the database is away")
        done = fleet.ctl("client", "add", "--id", "c9", timeout=DEADLINE)
        assert done.returncode != 0
        assert not fleet.keeper.found_in(done.stdout + done.stderr)
    finally:
        fleet.server.restart()
    wait_until(lambda: "event=registry_back" in fleet.ingestd.log(), "and that it is back")
    assert not fleet.keeper.found_in(fleet.ingestd.log())


def test_a_password_in_the_arguments_is_refused_and_not_repeated(tmp_path):
    _, text = lone_ingestd(tmp_path / "state", "--registry", "postgresql://user:very-secret-password@127.0.0.1:1/name").start_fails()
    assert "registry" in text and "very-secret-password" not in text


@pytest.mark.parametrize("url", ["postgresql://user:very-secret-password@[::1/name", "mysql://user:very-secret-password@h/n",
                                 "very-secret-password", "postgresql://user:very-secret-password%zz@127.0.0.1/name"])
def test_a_url_that_is_wrong_is_not_repeated(tmp_path, url):
    _, text = lone_ingestd(tmp_path / "state", TOBOGGANING_REGISTRY=url).start_fails()
    assert "registry" in text and "very-secret-password" not in text


@pytest.mark.parametrize("file", ["{broken very-secret-key", '{"kty":"EC","crv":"P-256","d":"very-secret-key","x":"AA","y":"AA"}',
                                  '{"kty":"EC","d":"very-secret-key"'])
def test_a_key_file_that_is_broken_is_not_repeated(tmp_path, file):
    (tmp_path / "state").mkdir(mode=0o700)
    key = tmp_path / "state" / "issuer-key.jwk"
    key.touch(mode=0o600)
    key.write_text(file)
    _, text = lone_ingestd(tmp_path / "state").start_fails()
    assert "issuer-key.jwk" in text and "very-secret-key" not in text
    key.unlink()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(file)
    _, text = lone_ingestd(tmp_path / "state", "--jwks-file", str(jwks)).start_fails()
    assert "jwks.json" in text and "very-secret-key" not in text


# --- core dumps, and the eyes of others ---

@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="tob-secrets-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def sanitized(path):
    return b"__asan_init" in Path(path).read_bytes()


def daemon_commands(folder, bin_folder):
    """Each program on its own, waiting for an ingestd that is not there."""
    options = {"ingestd": ["--listen", "tcp://127.0.0.1:0", "--bus-listen", "tcp://127.0.0.1:0", "--state-dir",
                           str(folder / "state")],
               "gateway": ["--listen", "127.0.0.1:0", "--ingest", "tcp://127.0.0.1:1"],
               "exporter": ["--listen", "127.0.0.1:0", "--ingest", "tcp://127.0.0.1:1", "--bus", "tcp://127.0.0.1:1"],
               "agent": ["client", "--client-id", "c1", "--interface", "lo", "--server", "tcp://127.0.0.1:1"]}
    return {name: [str(bin_folder / f"tobogganing-{name}"), *options[name]] for name in PROGRAMS}


def ready(text, name):
    return ("event=listening" if name == "exporter" else "event=ready") in text


def environment():
    return clean_environment(ADMIN_TOKEN="a" * 32, CLUSTER_TOKEN="b" * 32, METRICS_TOKEN="c" * 32, API_KEY="d" * 32)


def crash(argv, folder, is_ready, env):
    """Starts it with core dumps allowed, waits, kills it with SIGSEGV; was there a core dump?"""
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", *argv], cwd=folder, env=env,
                                   stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(log.read_text()), "it runs")
        os.kill(process.pid, signal.SIGSEGV)
        end = time.monotonic() + DEADLINE
        while True:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                break
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV, status
    return os.WCOREDUMP(status), [path.name for path in folder.iterdir() if path.name.startswith("core")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_crash_leaves_no_core_dump(tmp_path, name):
    program = binary(f"tobogganing-{name}")
    if sanitized(program):
        pytest.skip("the address sanitizer has to look at its process, and takes the signal")
    other = tmp_path / "other"
    other.mkdir()
    dumped, _ = crash(["sh", "-c", "echo runs; exec sleep 60"], other, lambda text: "runs" in text, environment())
    if not dumped:
        pytest.skip("this machine makes no core dumps")
    argv = daemon_commands(tmp_path, Path(program).parent)[name]
    assert crash(argv, tmp_path, lambda text: ready(text, name), environment()) == (False, [])


def as_nobody(*argv):
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *argv]


@pytest.mark.parametrize("name", PROGRAMS)
def test_others_of_the_same_user_can_not_read_the_environment_or_memory(open_folder, name):
    program = binary(f"tobogganing-{name}")
    if os.geteuid() != 0 or sanitized(program):
        pytest.skip("needs root, to become a user that is not; and no address sanitizer")
    nobody = pwd.getpwnam("nobody")
    shutil.copy(program, open_folder)
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    daemon = Daemon(name, as_nobody(*daemon_commands(home, open_folder)[name]), environment(), open_folder / "log",
                    ready_event="event=listening" if name == "exporter" else "event=ready").start()
    other = subprocess.Popen(as_nobody("sleep", "600"), env=environment())
    try:
        wait_until(lambda: Path(f"/proc/{other.pid}/comm").read_text().strip() == "sleep", "the other one runs")

        def readable(pid, file):
            done = subprocess.run(as_nobody("head", "-c1", f"/proc/{pid}/{file}"), capture_output=True, check=False,
                                  timeout=DEADLINE)
            return done.returncode == 0
        for file in ("environ", "maps"):
            assert readable(other.pid, file), "nobody can read a process of his own"
            assert not readable(daemon.process.pid, file), file
        assert os.stat(f"/proc/{daemon.process.pid}/environ").st_uid == 0  # proc(5): not dumpable
        assert "Max core file size        0                    0" in Path(
            f"/proc/{daemon.process.pid}/limits").read_text()
    finally:
        other.kill()
        other.wait()
        daemon.stop()
