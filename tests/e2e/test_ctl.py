"""tobogganctl: every command, its output for people and for programs, its errors."""
import base64
import json
import subprocess
import time

import pytest

from harness import binary, clean_environment, free_port, wait_until

MS_2020 = 1577836800000


@pytest.fixture(scope="module")
def fleet(cluster):
    return cluster


def test_a_cluster_is_added_and_listed(fleet):
    made = fleet.ctl_json("cluster", "add", "--id", "c1", "--name", "Cluster One", "--region", "us-east", "--datacenter",
                          "nyc1", "--headend-url", "wg://h1.example.com:51820")
    assert made["created_unix_ms"] > MS_2020
    assert {key: made[key] for key in ("cluster_id", "name", "region", "datacenter", "headend_url")} == {
        "cluster_id": "c1", "name": "Cluster One", "region": "us-east", "datacenter": "nyc1",
        "headend_url": "wg://h1.example.com:51820"}
    assert made in fleet.ctl_json("cluster", "list")
    table = fleet.ctl_ok("cluster", "list")
    assert "CLUSTER" in table.splitlines()[0] and "us-east" in table


def test_names_default_to_ids_and_ids_are_made(fleet):
    made = fleet.ctl_json("client", "add")
    assert made["client_id"] and made["name"] == made["client_id"] and made["type"] == "native"
    assert fleet.post_client(made["client_id"], made["api_key"], {}).ok
    headend = fleet.ctl_json("headend", "add")
    assert headend["headend_id"] and headend["name"] == headend["headend_id"]


def test_a_client_is_added_listed_and_revoked(fleet):
    made = fleet.ctl_json("client", "add", "--id", "laptop", "--name", "Lap é top", "--type", "mobile")
    assert made["api_key"].startswith("tobk_") and len(made["api_key"]) == 5 + 43
    listed = {client["client_id"]: client for client in fleet.ctl_json("client", "list")}
    assert listed["laptop"]["name"] == "Lap é top" and listed["laptop"]["type"] == "mobile"
    assert listed["laptop"]["revoked_unix_ms"] == 0
    assert made["api_key"] not in json.dumps(listed)
    assert fleet.post_client("laptop", made["api_key"], {}).status_code == 200
    revoked = fleet.ctl_json("client", "revoke", "laptop")
    assert revoked["revoked_unix_ms"] > MS_2020
    assert fleet.post_client("laptop", made["api_key"], {}).status_code == 401
    assert fleet.ctl_json("client", "revoke", "laptop") == revoked  # twice changes nothing


def test_a_deleted_client_leaves_the_exposition_and_stays_away(make_cluster):
    fleet = make_cluster()
    old = fleet.add_client("gone")
    stays = fleet.add_client("stays")
    token = fleet.add_headend("h-gone")
    for client, key in (("gone", old), ("stays", stays)):
        assert fleet.post_client(client, key, {"metrics": {"bytes_sent": 41, "packets_sent": 7}}).ok
    assert fleet.post_headend("h-gone", token, {"metrics": {"cpu_usage": 9}}).ok
    fleet.wait_value("tobogganing_client_bytes_sent", 41, client_id="gone")
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 9, headend_id="h-gone")
    fleet.wait_value("tobogganing_manager_clients_total", 2)

    assert fleet.ctl_ok("client", "delete", "gone") == "gone is deleted\n"
    assert fleet.ctl_json("headend", "delete", "h-gone") == {"headend_id": "h-gone"}
    assert fleet.post_client("gone", old, {}).status_code == 401
    assert fleet.post_headend("h-gone", token, {"metrics": {"cpu_usage": 10}}).status_code == 404
    fleet.ctl_fails("client", "delete", "gone", part="NOT_FOUND")
    fleet.ctl_fails("headend", "delete", "h-gone", part="NOT_FOUND")
    fleet.wait_value("tobogganing_manager_clients_total", 1)

    def all_gone():
        text = fleet.get_metrics().text
        return 'client_id="stays"' in text and "gone" not in text
    wait_until(all_gone, "they have left the exposition", timeout=20)
    for end in (fleet.ingestd.kill, fleet.ingestd.stop, fleet.exporter.stop):
        end()
        (fleet.exporter if end == fleet.exporter.stop else fleet.ingestd).start()
        fleet.wait_ready()
        fleet.wait_value("tobogganing_client_bytes_sent", 41, client_id="stays")
        wait_until(all_gone, "they stay away")

    # Their ids are free, and nothing of before comes back with them: not now, not after a restart.
    new = fleet.add_client("gone")
    assert new != old
    assert fleet.post_client("gone", old, {}).status_code == 401
    assert fleet.post_client("gone", new, {"metrics": {"bytes_received": 5}}).ok
    fleet.add_headend("h-gone")
    for _ in range(2):
        scrape = fleet.wait_value("tobogganing_client_bytes_received", 5, client_id="gone")
        assert scrape.value("tobogganing_client_packets_sent", client_id="gone") in (0, None)
        assert scrape.value("tobogganing_client_bytes_sent", client_id="gone") in (0, None)
        assert scrape.value("tobogganing_headend_cpu_usage_percent", headend_id="h-gone") is None
        fleet.ingestd.kill()
        fleet.ingestd.start()
        fleet.wait_ready()


def test_plain_output_is_for_the_shell(fleet):
    out = fleet.ctl_ok("client", "add", "--id", "shell")
    lines = dict(line.split("=", 1) for line in out.splitlines())
    assert lines.keys() == {"CLIENT_ID", "API_KEY"} and lines["CLIENT_ID"] == "shell"
    assert fleet.post_client("shell", lines["API_KEY"], {}).ok


def test_a_headend_gets_tokens(fleet):
    fleet.ctl_ok("cluster", "add", "--id", "c2", "--region", "eu", "--datacenter", "fra1")
    made = fleet.ctl_json("headend", "add", "--id", "gw-1", "--name", "Gateway", "--cluster", "c2")
    assert made["cluster_id"] == "c2" and made["name"] == "Gateway"
    assert made in fleet.ctl_json("headend", "list")
    token = fleet.ctl_ok("headend", "token", "gw-1", "--ttl", "1h")
    assert token.count("\n") == 1 and token.count(".") == 2
    assert fleet.post_headend("gw-1", token.strip(), {"metrics": {"cpu_usage": 3}}).ok
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 3, headend_id="gw-1", name="Gateway", region="eu", datacenter="fra1")
    issued = fleet.ctl_json("headend", "token", "gw-1")
    assert issued["token"] and issued["expires_unix_s"] * 1000 > MS_2020


def test_a_token_lives_as_long_as_was_asked(fleet):
    fleet.ctl_ok("headend", "add", "--id", "gw-2", "--if-missing")
    for ttl, seconds in (("1h", 3600), ("720h", 720 * 3600), ("2s", 2)):
        token = fleet.ctl_ok("headend", "token", "gw-2", "--ttl", ttl).strip()
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert claims["sub"] == "gw-2"
        assert abs(claims["exp"] - time.time() - seconds) < 30
    default = fleet.ctl_json("headend", "token", "gw-2")["expires_unix_s"]
    assert abs(default - time.time() - 30 * 86400) < 30


def test_ids_are_taken_once(fleet):
    for kind in ("client", "cluster", "headend"):
        fleet.ctl_ok(kind, "add", "--id", "twice")
        error = fleet.ctl_fails(kind, "add", "--id", "twice", part="ALREADY_EXISTS")
        assert "twice" in error or kind in error
    for kind in ("cluster", "headend"):
        assert json.loads(fleet.ctl_ok(kind, "add", "--id", "twice", "--if-missing", "--json"))[f"{kind}_id"] == "twice"


@pytest.mark.parametrize("arguments, part", [
    (["client", "add", "--id", "a b"], "client_id"),
    (["client", "add", "--id", "x" * 129], "client_id"),
    (["client", "add", "--name", "x" * 257], "name"),
    (["client", "add", "--name", "a\nb"], "name"),
    (["client", "add", "--type", "toaster"], "type"),
    (["cluster", "add", "--region", "x" * 257], "region"),
    (["headend", "add", "--id", "é"], "headend_id"),
])
def test_a_bad_field_is_named(fleet, arguments, part):
    error = fleet.ctl_fails(*arguments, part="INVALID_ARGUMENT")
    assert part in error


@pytest.mark.parametrize("arguments", [["client", "add", "--cluster", "nowhere"], ["headend", "add", "--cluster", "nowhere"],
                                       ["client", "revoke", "nobody"], ["headend", "token", "nobody"],
                                       ["client", "delete", "nobody"], ["headend", "delete", "nobody"]])
def test_what_does_not_exist_is_not_found(fleet, arguments):
    fleet.ctl_fails(*arguments, part="NOT_FOUND")


def test_lists_page_through_everything(fleet, pb):
    with fleet.rpc(bearer=fleet.admin_token) as admin:
        for i in range(1100):
            admin.call("/tobogganing.v1.Registry/AddCluster", pb.registry.AddClusterRequest(cluster_id=f"page-{i:04}"),
                       pb.registry.AddClusterResponse)
    ids = [cluster["cluster_id"] for cluster in fleet.ctl_json("cluster", "list")]
    assert len(ids) == len(set(ids)) and {f"page-{i:04}" for i in range(1100)} <= set(ids)
    assert len(fleet.ctl_ok("cluster", "list").splitlines()) == len(ids) + 1


def test_health_and_status(fleet):
    assert fleet.ctl_ok("health").strip() == "serving"
    assert fleet.ctl_json("health")["status"] == "STATUS_SERVING"
    status = fleet.ctl_json("status")
    assert status["clients"] >= 1 and status["journal_bytes"] > 0 and status["version"]
    assert status["journal_oldest"]["segment"] == 1 and status["request_memory_max_bytes"] > 0
    text = fleet.ctl_ok("status")
    for part in ("clients", "repeated batches", "refused calls", "memory, bytes", "oldest", "checkpoint"):
        assert part in text
    # Neither needs a credential.
    assert fleet.ctl("health", env={"ADMIN_TOKEN": ""}).returncode == 0


def test_a_wrong_admin_token_is_refused_with_a_hint(fleet):
    error = fleet.ctl_fails("client", "list", env={"ADMIN_TOKEN": "hunter2"}, part="UNAUTHENTICATED")
    assert "ADMIN_TOKEN" in error and "hunter2" not in error


def test_no_admin_token_is_a_usage_error(fleet):
    fleet.ctl_fails("client", "list", env={"ADMIN_TOKEN": ""}, status=2, part="ADMIN_TOKEN")


def test_the_admin_token_can_come_from_a_file(fleet, tmp_path):
    (tmp_path / "token").write_text(fleet.admin_token + "\n")
    done = fleet.ctl("client", "list", "--admin-token-file", str(tmp_path / "token"), env={"ADMIN_TOKEN": ""})
    assert done.returncode == 0, done.stderr
    fleet.ctl_fails("client", "list", "--admin-token-file", "/nonexistent", env={"ADMIN_TOKEN": ""}, status=2,
          part="admin-token-file")


def test_admin_tokens_rotate_without_a_gap(make_cluster, tmp_path):
    cluster = make_cluster(start=False)
    tokens = tmp_path / "tokens"
    tokens.write_text("old\n")
    del cluster.ingestd.env["ADMIN_TOKEN"]
    cluster.ingestd.env["ADMIN_TOKEN_FILE"] = str(tokens)
    cluster.start()

    def status(token):
        return cluster.ctl("client", "list", env={"ADMIN_TOKEN": token}).returncode
    assert (status("old"), status("new")) == (0, 1)
    tokens.write_text("old\nnew\n")
    cluster.ingestd.reload()
    wait_until(lambda: status("new") == 0, "the new token is known")
    assert status("old") == 0
    tokens.write_text("# nothing any more\n")
    cluster.ingestd.reload()
    wait_until(lambda: "event=reload_failed" in cluster.ingestd.log(), "it refuses to have no token")
    assert (status("old"), status("new")) == (0, 0)
    tokens.write_text("new\n")
    cluster.ingestd.reload()
    wait_until(lambda: status("old") == 1, "the old token is gone")
    assert status("new") == 0


def test_a_server_that_is_away_is_said_with_a_hint(fleet):
    error = fleet.ctl_fails("health", "--server", f"tcp://127.0.0.1:{free_port()}", "--timeout", "1s", part="UNAVAILABLE")
    assert "--server" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["client"], ["client", "explode"], ["client", "add", "--bogus"],
                                       ["client", "revoke"], ["client", "revoke", "a", "b"], ["health", "--server", "junk"]])
def test_wrong_usage_is_2(fleet, arguments):
    done = fleet.ctl(*arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_help_lists_the_commands():
    def run(*arguments):
        done = subprocess.run([binary("tobogganctl"), *arguments], capture_output=True, text=True, timeout=60,
                              env=clean_environment(), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    listed = run("--help")
    kinds = {"client": "add get list update rotate-key revoke-previous-key revoke delete import export",
             "cluster": "add get list update heartbeat revoke delete",
             "headend": "add get list update token revoke-tokens revoke delete",
             "cert": "generate get list revoke crl ca", "signing-key": "rotate list revoke",
             "journal": "inspect verify repair", "consumer": "list forget"}
    commands = [f"{kind} {name}" for kind, names in kinds.items() for name in names.split()]
    commands += ["jwks", "audit", "health", "status"]
    assert sum(line.startswith("  ") for line in listed.splitlines()) == len(commands)
    for command in commands:
        assert command in listed
        assert f"tobogganctl {command}" in run(*command.split(), "--help")
    assert "client revoke" in run("client", "--help") and "headend" not in run("client", "--help").split("Options")[0]
