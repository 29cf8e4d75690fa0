"""Tokens and keys in files: every daemon follows a change by itself, and SIGHUP, without a restart and without a gap."""
import json
import os
import re
import secrets
import shutil
import time

import pytest
import requests

from harness import DEADLINE, Daemon, binary, clean_environment, wait_until
from sp import RpcError
from tokens import EcIssuer

PROMPT_S = 1.0  # how soon a change has to work
BAD_LINE = "this is no token and name\n"


class InPlace:
    """Files that are written over."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return str(self.folder / name)

    def write(self, name, text):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)


class ByRename(InPlace):
    """Files that are replaced, as editors and configuration tools do it."""

    def write(self, name, text):
        new = self.folder / f".{name}.new"
        new.touch(mode=0o600)
        new.write_text(text)
        os.replace(new, self.folder / name)


class Kubernetes(InPlace):
    """A mounted secret: name -> ..data/name, ..data -> a folder, which is exchanged as a whole."""

    def __init__(self, folder):
        super().__init__(folder)
        self.version, self.texts = 0, {}

    def write(self, name, text):
        self.texts[name] = text
        old, self.version = self.folder / f"..{self.version}", self.version + 1
        new = self.folder / f"..{self.version}"
        new.mkdir()
        for each, content in self.texts.items():
            (new / each).touch(mode=0o600)
            (new / each).write_text(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(self.folder / "..data")
        if not (self.folder / name).is_symlink():
            (self.folder / name).symlink_to(f"..data/{name}")
        shutil.rmtree(old, ignore_errors=True)


WAYS = {"in place": InPlace, "by rename": ByRename, "as Kubernetes does": Kubernetes}


def new_tokens():
    return {name: secrets.token_hex(16) for name in ("admin", "cluster", "metrics")}


@pytest.fixture(scope="module", params=WAYS)
def fleet(make_cluster, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("secrets")
    issuer = EcIssuer(folder, "first")
    (folder / "mounted").mkdir()
    files = WAYS[request.param](folder / "mounted")
    tokens = new_tokens()
    for name, token in tokens.items():
        files.write(name, token + "\n")
    files.write("jwks", json.dumps({"keys": [issuer.jwk]}))
    cluster = make_cluster(start=False, ingestd_options=["--jwks-file", files.path("jwks")])
    for daemon, names in ((cluster.ingestd, ("admin", "cluster")), (cluster.gateway, ("cluster",)),
                          (cluster.exporter, ("cluster", "metrics"))):
        for name in names:
            daemon.env.pop(f"{name.upper()}_TOKEN", None)
            daemon.env[f"{name.upper()}_TOKEN_FILE"] = files.path(name)
    cluster.files, cluster.issuer, cluster.keys_folder = files, issuer, folder
    use_tokens(cluster, tokens)
    cluster.start()
    cluster.ctl_ok("headend", "add", "--id", "h1")
    return cluster


def use_tokens(cluster, tokens):
    cluster.tokens = tokens
    cluster.admin_token, cluster.cluster_token, cluster.metrics_token = (
        tokens[name] for name in ("admin", "cluster", "metrics"))


def let_in(fleet, name, token):
    """Is this token accepted at the door?"""
    if name == "metrics":
        status = fleet.get_metrics(fleet.exporter_url, token).status_code
        assert status in (200, 401), status
        return status == 200
    method = {"admin": "/tobogganing.v1.Registry/ListClients", "cluster": "/tobogganing.v1.Bus/Snapshot"}[name]
    with fleet.rpc(bearer=token) as rpc:
        try:
            rpc.call_bytes(method, b"")
        except RpcError as error:
            assert error.code == "UNAUTHENTICATED", error
            return False
    return True


DOOR_OF = {"admin": "ingestd", "cluster": "ingestd", "metrics": "exporter"}


def soon(condition, what):
    """Waits for it, and returns how long it took."""
    start = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - start


@pytest.mark.parametrize("name", DOOR_OF)
def test_a_change_of_a_token_file_works_within_a_second_and_without_a_signal(fleet, name):
    took = []
    for _ in range(3):  # one of them, in case that the machine is busy with something else
        old, new = fleet.tokens[name], secrets.token_hex(16)
        fleet.files.write(name, f"# the new one comes first\n{new} alice # since today\n\n{old}\n")
        took.append(soon(lambda n=new: let_in(fleet, name, n), f"the new {name} token is accepted"))
        assert let_in(fleet, name, old)
        fleet.files.write(name, f"{new} alice\n")
        took.append(soon(lambda o=old: not let_in(fleet, name, o), f"the old {name} token is refused"))
        assert let_in(fleet, name, new)
        use_tokens(fleet, {**fleet.tokens, name: new})
    assert min(took[0::2]) < PROMPT_S and min(took[1::2]) < PROMPT_S, took


def test_gateway_and_exporter_present_the_new_cluster_token(fleet):
    old, new = fleet.tokens["cluster"], secrets.token_hex(16)
    fleet.files.write("cluster", f"{new}\n{old}\n")
    wait_until(lambda: let_in(fleet, "cluster", new), "ingestd has it")
    fleet.files.write("cluster", f"{new}\n")
    wait_until(lambda: not let_in(fleet, "cluster", old), "ingestd has only that")
    use_tokens(fleet, {**fleet.tokens, "cluster": new})
    key = fleet.add_client("after-rotation")
    assert fleet.post_client("after-rotation", key, {"metrics": {"bytes_sent": 7}}).status_code == 200
    # What the gateway counts arrives only with the new token, and the exporter takes a snapshot only with it.
    scrape = fleet.scrape()
    labels = {"method": "POST", "endpoint": "/api/v1/clients/{client_id}/metrics", "status": "200"}
    before = scrape.value("tobogganing_manager_http_requests_total", **labels) or 0
    fleet.post_client("after-rotation", key, {"metrics": {"bytes_sent": 8}})
    wait_until(lambda: (fleet.scrape().value("tobogganing_manager_http_requests_total", **labels) or 0) > before,
               "the gateway's counters arrive")
    fleet.ingestd.stop()
    fleet.ingestd.start()
    fleet.wait_ready()
    fleet.wait_value("tobogganing_client_bytes_sent", 8, client_id="after-rotation", name="after-rotation", type="native",
                     headless="false")


def test_a_change_of_the_jwks_works_within_a_second_and_without_a_signal(fleet):
    def status(issuer):
        return fleet.post_headend("h1", issuer.token(), {"metrics": {"cpu_usage": 1}}).status_code

    took = []
    for number in range(3):
        old, new = fleet.issuer, EcIssuer(fleet.keys_folder, f"key-{number}")
        assert (status(old), status(new)) == (200, 401)
        fleet.files.write("jwks", json.dumps({"keys": [old.jwk, new.jwk]}))
        took.append(soon(lambda n=new: status(n) == 200, "the new key is known"))
        assert status(old) == 200
        fleet.files.write("jwks", json.dumps({"keys": [new.jwk]}))
        took.append(soon(lambda o=old: status(o) == 401, "the old key is gone"))
        assert status(new) == 200
        fleet.issuer = new
    assert min(took[0::2]) < PROMPT_S and min(took[1::2]) < PROMPT_S, took


@pytest.mark.parametrize("name", [*DOOR_OF, "jwks"])
@pytest.mark.parametrize("broken", ["empty", "malformed", "gone"])
def test_a_broken_file_changes_nothing_and_is_logged_once(fleet, name, broken):
    daemon = getattr(fleet, DOOR_OF.get(name, "ingestd"))
    good = json.dumps({"keys": [fleet.issuer.jwk]}) if name == "jwks" else fleet.tokens[name] + "\n"

    def count(event):
        return len(re.findall(rf"event={event}\b", daemon.log()))

    def still_good():
        if name == "jwks":
            return fleet.post_headend("h1", fleet.issuer.token(), {}).status_code == 200
        return let_in(fleet, name, fleet.tokens[name])

    failed, reloaded = count("reload_failed"), count("reloaded")
    if broken == "gone":
        os.unlink(fleet.files.path(name))
    else:
        fleet.files.write(name, BAD_LINE if broken == "malformed" else "")
    wait_until(lambda: count("reload_failed") > failed, "it says that the file is broken")
    assert still_good()
    fleet.files.write(name, good)
    wait_until(lambda: count("reloaded") > reloaded, "it has read the good file")
    assert still_good()
    assert count("reload_failed") == failed + 1
    assert BAD_LINE.strip() not in daemon.log()


def test_nothing_of_a_token_is_in_a_log(fleet):
    for daemon in fleet.daemons:
        for token in fleet.tokens.values():
            assert token not in daemon.log_path.read_text()


def test_all_daemons_follow_rotated_tokens_on_sighup(make_cluster, tmp_path):
    files = {}
    for name in ("admin", "cluster", "metrics"):
        files[name] = tmp_path / f"{name}-tokens"
        files[name].write_text(secrets.token_hex(16) + "\n")
    cluster = make_cluster(start=False)
    for daemon, names in ((cluster.ingestd, ("admin", "cluster")), (cluster.gateway, ("cluster",)),
                          (cluster.exporter, ("cluster", "metrics"))):
        for name in names:
            daemon.env.pop(f"{name.upper()}_TOKEN", None)
            daemon.env[f"{name.upper()}_TOKEN_FILE"] = str(files[name])
    cluster.start()

    old = {name: path.read_text().strip() for name, path in files.items()}
    new = {name: secrets.token_hex(16) for name in files}
    for name, path in files.items():
        path.write_text(f"# the new one comes first\n{new[name]}\n{old[name]}\n")
    for daemon in cluster.daemons:
        daemon.reload()
    for name in ("old", "new"):
        token = (old if name == "old" else new)["metrics"]
        wait_until(lambda token=token: requests.get(cluster.exporter_url + "/metrics", timeout=DEADLINE,
                                                    headers={"Authorization": f"Bearer {token}"}).status_code == 200,
                   f"the {name} metrics token is accepted")
    for path, name in ((files[name], name) for name in files):
        path.write_text(new[name] + "\n")
    for daemon in cluster.daemons:
        daemon.reload()

    def refused():
        return requests.get(cluster.exporter_url + "/metrics", timeout=DEADLINE,
                            headers={"Authorization": f"Bearer {old['metrics']}"}).status_code == 401

    wait_until(refused, "the old metrics token is refused")
    wait_until(lambda: "UNAUTHENTICATED" in cluster.ctl("client", "list", env={"ADMIN_TOKEN": old["admin"]}).stderr,
               "the old admin token is refused")
    cluster.admin_token, cluster.metrics_token = new["admin"], new["metrics"]
    key = cluster.add_client("after-rotation")
    assert cluster.post_client("after-rotation", key, {"metrics": {"bytes_sent": 7}}).status_code == 200
    # What the gateway counted arrives only with the new cluster token.
    cluster.wait_value("tobogganing_manager_http_requests_total", 1, method="POST",
                       endpoint="/api/v1/clients/{client_id}/metrics", status="200")


def test_sighup_reads_files_that_did_not_change(cluster):
    for daemon in cluster.daemons:
        before = daemon.log().count("event=reloaded")
        daemon.reload()
        wait_until(lambda d=daemon, b=before: d.log().count("event=reloaded") > b, f"{daemon.name} reads again")


def test_the_metrics_token_may_be_a_list(make_cluster):
    cluster = make_cluster(start=False)
    cluster.exporter.env["METRICS_TOKEN"] = "one-token, another-token"
    cluster.metrics_token = "one-token"
    cluster.start()
    for token, status in (("one-token", 200), ("another-token", 200), ("one-token, another-token", 401), ("one", 401)):
        assert cluster.get_metrics(cluster.exporter_url, token).status_code == status, token


def test_a_gateway_with_a_wrong_cluster_token_says_so(make_cluster):
    cluster = make_cluster(start=False)
    cluster.gateway.env["CLUSTER_TOKEN"] = "not-the-one"
    cluster.start()
    wait_until(lambda: "event=counters_not_reported" in cluster.gateway.log(), "the gateway names its token")
    assert "CLUSTER_TOKEN" in cluster.gateway.log() and "not-the-one" not in cluster.gateway.log()
    key = cluster.add_client("still-reports")
    assert cluster.post_client("still-reports", key, {"metrics": {"bytes_sent": 7}}).status_code == 200


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_token_file_that_others_may_read_is_warned_of_once(make_cluster, tmp_path, mode):
    cluster = make_cluster(start=False)
    for daemon, names in ((cluster.ingestd, ("ADMIN", "CLUSTER")), (cluster.gateway, ("CLUSTER",)),
                          (cluster.exporter, ("METRICS", "CLUSTER"))):
        for name in names:
            path = tmp_path / name
            path.write_text(daemon.env.pop(f"{name}_TOKEN") + "\n")
            path.chmod(mode)
            daemon.env[f"{name}_TOKEN_FILE"] = str(path)
    cluster.start()
    key = cluster.add_client("c1")
    api_key = tmp_path / "API_KEY"
    api_key.write_text(key + "\n")
    api_key.chmod(mode)
    agent = cluster.agent("client", "--client-id", "c1", "--api-key-file", str(api_key), "--interface", "lo", "--once")
    assert agent.returncode == 0, agent.stderr
    cluster.ingestd.reload()
    wait_until(lambda: "event=reloaded" in cluster.ingestd.log(), "it reads again")
    exposed = mode != 0o600
    assert cluster.ingestd.log().count("event=token_file_readable") == 2 * exposed
    assert cluster.exporter.log().count("event=token_file_readable") == 2 * exposed
    assert cluster.gateway.log().count("event=token_file_readable") == exposed
    assert agent.stderr.count("event=token_file_readable") == exposed


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_follows_its_rotated_key(cluster, tmp_path, way):
    client_id = "agent-" + way.replace(" ", "-")
    files = WAYS[way](tmp_path)
    files.write("key", cluster.add_client(client_id) + "\n")
    agent = Daemon("agent", [binary("tobogganing-agent"), "client", "--client-id", client_id, "--api-key-file",
                             files.path("key"), "--interface", "lo", "--sample-interval", "100ms",
                             "--batch-interval", "100ms", "--log-level", "debug"],
                   clean_environment(INGEST_URL=cluster.ingest_url), tmp_path / "agent.log").start()
    try:
        wait_until(lambda: "event=submitted" in agent.log(), "the agent reports")
        request = cluster.pb.registry.RotateClientKeyRequest(client_id=client_id)
        with cluster.rpc(bearer=cluster.admin_token) as rpc:
            new = rpc.call("/tobogganing.v1.Registry/RotateClientKey", request,
                           cluster.pb.registry.RotateClientKeyResponse).api_key
        wait_until(lambda: "event=series_rejected" in agent.log(), "the old key is refused")
        files.write("key", new + "\n")
        wait_until(lambda: "event=reloaded" in agent.log(), "the agent reads the new key")
        at = len(agent.log())
        wait_until(lambda: "event=submitted" in agent.log()[at:], "the agent reports again")
        assert new not in agent.log()
    finally:
        agent.stop()
