"""tobogganctl: what it can do with what is registered, with keys, certificates and the audit log."""
import json
import os
import pty
import stat
import subprocess
import time

import pytest

from harness import binary, clean_environment, wait_until
from tokens import openssl

MS_2020 = 1577836800000


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.ctl_ok("cluster", "add", "--id", "base", "--region", "us-east", "--datacenter", "nyc1")
    return cluster


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# --- get and update ---

def test_what_is_updated_changes_and_nothing_else(fleet):
    fleet.ctl_ok("client", "add", "--id", "u1", "--name", "Old", "--type", "docker", "--location", "Oslo")
    before = fleet.ctl_json("client", "get", "u1")
    after = fleet.ctl_json("client", "update", "u1", "--name", "New", "--cluster", "base", "--public-key", "wg=")
    assert after == {**before, "name": "New", "cluster_id": "base", "public_key": "wg="}
    assert fleet.ctl_json("client", "get", "u1") == after
    assert fleet.ctl_json("client", "update", "u1", "--cluster", "", "--location", "")["location"] == ""
    assert fleet.ctl_json("client", "get", "u1")["cluster_id"] == ""
    fleet.ctl_fails("client", "update", "u1", status=2, part="nothing to change")
    fleet.ctl_fails("client", "update", "u1", "--type", "toaster", part="type")
    fleet.ctl_fails("client", "update", "nobody", "--name", "x", part="NOT_FOUND")


def test_clusters_and_headends_are_updated_too(fleet):
    fleet.ctl_ok("cluster", "add", "--id", "u2")
    assert fleet.ctl_json("cluster", "update", "u2", "--region", "eu", "--headend-url", "wg://h:1")["region"] == "eu"
    fleet.ctl_ok("headend", "add", "--id", "u2-h")
    changed = fleet.ctl_json("headend", "update", "u2-h", "--cluster", "u2", "--name", "Two")
    assert (changed["cluster_id"], changed["name"]) == ("u2", "Two")
    assert fleet.ctl_json("headend", "get", "u2-h") == changed
    text = fleet.ctl_ok("cluster", "get", "u2")
    assert "region" in text and "eu" in text and "active" in text


def test_a_changed_name_is_on_the_next_scrapes_labels(fleet):
    key = fleet.add_client("label", name="Before")
    assert fleet.post_client("label", key, {"metrics": {"bytes_sent": 3}}).ok
    fleet.wait_value("tobogganing_client_bytes_sent", 3, client_id="label", name="Before")
    fleet.ctl_ok("client", "update", "label", "--name", "After")
    fleet.wait_value("tobogganing_client_bytes_sent", 3, client_id="label", name="After")


def test_a_client_is_placed_in_the_nearest_cluster_with_the_fewest_clients(fleet):
    for i in (1, 2):
        fleet.ctl_ok("cluster", "add", "--id", f"place-{i}", "--region", "Mars", "--headend-url", f"wg://mars{i}?a='b'&c")
    shell = subprocess.run(["sh", "-c", 'eval "$(cat)"; printf "%s|%s|%s" "$CLIENT_ID" "$CLUSTER_ID" "$HEADEND_URL"'],
                           input=fleet.ctl_ok("client", "add", "--location", "mars", "--place"), capture_output=True, text=True,
                           timeout=60, check=True).stdout.split("|")
    assert shell[1] == "place-1" and shell[2] == "wg://mars1?a='b'&c"
    placed = fleet.ctl_json("client", "add", "--location", "mars", "--place")
    assert placed["cluster_id"] == "place-2" and placed["cluster"]["headend_url"] == "wg://mars2?a='b'&c"


# --- revoking and deleting ---

def test_a_revoked_headend_gets_no_tokens_and_its_old_ones_are_refused(fleet):
    token = fleet.add_headend("rh")
    assert fleet.post_headend("rh", token, {"metrics": {"cpu_usage": 1}}).ok
    assert "rh is revoked since 20" in fleet.ctl_ok("headend", "revoke", "rh")
    assert fleet.post_headend("rh", token, {"metrics": {"cpu_usage": 1}}).status_code in (401, 403)
    fleet.ctl_fails("headend", "token", "rh", part="FAILED_PRECONDITION")


def test_all_tokens_of_a_headend_are_called_back_and_new_ones_are_good(fleet):
    token = fleet.add_headend("back")
    assert fleet.post_headend("back", token, {"metrics": {"cpu_usage": 1}}).ok
    fleet.ctl_ok("headend", "revoke-tokens", "back")
    assert fleet.post_headend("back", token, {"metrics": {"cpu_usage": 1}}).status_code == 401
    issued = fleet.ctl_json("headend", "token", "back")
    assert fleet.post_headend("back", issued["token"], {"metrics": {"cpu_usage": 1}}).ok
    assert issued["kid"] in {key["kid"] for key in fleet.ctl_json("signing-key", "list")}


def test_a_cluster_is_deleted_when_nothing_belongs_to_it_and_lives_by_heartbeats(fleet):
    fleet.ctl_ok("cluster", "add", "--id", "dc")
    fleet.ctl_ok("client", "add", "--id", "dc-client", "--cluster", "dc")
    fleet.ctl_fails("cluster", "delete", "dc", part="FAILED_PRECONDITION")
    beat = fleet.ctl_json("cluster", "heartbeat", "dc", "--client-count", "150")
    assert beat["client_count"] == 150 and beat["heartbeat_unix_ms"] > MS_2020 and beat["registered_clients"] == 1
    fleet.ctl_ok("client", "update", "dc-client", "--cluster", "")
    assert fleet.ctl_ok("cluster", "delete", "dc") == "dc is deleted\n"
    fleet.ctl_ok("cluster", "revoke", "u2")
    fleet.ctl_fails("cluster", "heartbeat", "u2", part="FAILED_PRECONDITION")


# --- keys ---

def test_a_rotated_key_overlaps_until_the_grace_is_over_or_ended(fleet):
    first = fleet.add_client("rot")

    def status(key):
        return fleet.post_client("rot", key, {}).status_code
    out = dict(line.split("=", 1) for line in fleet.ctl_ok("client", "rotate-key", "rot").splitlines())
    assert out["CLIENT_ID"] == "rot"
    second = out["API_KEY"]
    assert (status(first), status(second)) == (200, 200)
    client = fleet.ctl_json("client", "get", "rot")
    assert client["key_generation"] == 2
    assert abs(client["previous_key_expires_unix_ms"] / 1000 - time.time() - 86400) < 60
    rotated = fleet.ctl_json("client", "rotate-key", "rot", "--grace", "1h")
    third = rotated["api_key"]
    assert (status(first), status(second), status(third)) == (401, 200, 200)
    fleet.ctl_ok("client", "revoke-previous-key", "rot")
    assert (status(second), status(third)) == (401, 200)
    fourth = fleet.ctl_json("client", "rotate-key", "rot", "--grace", "0")["api_key"]
    assert (status(third), status(fourth)) == (401, 200)
    fleet.ctl_ok("client", "rotate-key", "rot", "--grace", "1s")
    wait_until(lambda: status(fourth) == 401, "the grace is over")
    fleet.ctl_fails("client", "rotate-key", "rot", "--grace", "91d", status=2, part="grace")


def test_signing_keys_rotate_and_are_revoked(fleet):
    token = fleet.add_headend("sk")
    old = fleet.ctl_json("headend", "token", "sk")["kid"]
    fleet.ctl_fails("signing-key", "revoke", old, part="FAILED_PRECONDITION")
    new = fleet.ctl_json("signing-key", "rotate", "--overlap", "1h")["kid"]
    assert new != old and fleet.ctl_json("headend", "token", "sk")["kid"] == new
    public = {key["kid"]: key for key in json.loads(fleet.ctl_ok("jwks"))["keys"]}
    assert {old, new} <= public.keys() and not any("d" in key for key in public.values())
    assert fleet.post_headend("sk", token, {"metrics": {"cpu_usage": 1}}).ok
    assert fleet.ctl_ok("signing-key", "revoke", old).startswith(f"{old} is revoked since 20")
    assert fleet.post_headend("sk", token, {"metrics": {"cpu_usage": 1}}).status_code == 401
    listed = {key["kid"]: key for key in fleet.ctl_json("signing-key", "list")}
    assert listed[old]["revoked_unix_ms"] > MS_2020 and listed[new]["revoked_unix_ms"] == 0
    assert old not in {key["kid"] for key in json.loads(fleet.ctl_ok("jwks"))["keys"]}
    assert new in fleet.ctl_ok("signing-key", "list")


# --- certificates ---

def test_a_certificate_with_a_fresh_key_goes_to_files_that_others_cant_read(fleet, tmp_path):
    crt, key, ca = (tmp_path / name for name in ("c.crt", "c.key", "ca.crt"))
    out = fleet.ctl_ok("cert", "generate", "--type", "server", "--subject", "ingest", "--name", "ingest.example.com,192.0.2.1",
                       "--days", "30", "--cert-out", str(crt), "--key-out", str(key), "--ca-out", str(ca))
    assert "ingest is issued, serial " in out and "PRIVATE" not in out
    assert mode_of(key) == 0o600
    openssl("verify", "-CAfile", ca, crt)
    assert openssl("x509", "-in", crt, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")
    names = openssl("x509", "-in", crt, "-noout", "-ext", "subjectAltName").decode()
    assert "DNS:ingest.example.com" in names and "192.0.2.1" in names
    assert fleet.ctl_ok("cert", "ca") == ca.read_text()
    fleet.ctl_fails("cert", "generate", "--type", "server", "--subject", "ingest", "--cert-out", str(crt), "--key-out",
          str(tmp_path / "x.key"), part="exists")
    assert not (tmp_path / "x.key").exists()
    before = crt.read_text()
    fleet.ctl_ok("cert", "generate", "--type", "server", "--subject", "ingest", "--cert-out", str(crt), "--key-out", str(key),
                 "--force")
    assert crt.read_text() != before and mode_of(key) == 0o600


def test_a_certificate_for_a_request_and_the_revocation_list(fleet, tmp_path):
    key, csr, crl = (tmp_path / name for name in ("k.pem", "r.csr", "fleet.crl"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr, "-subj",
            "/CN=whatever")
    fleet.ctl_fails("cert", "generate", "--type", "client", "--subject", "nobody", "--csr", str(csr), part="FAILED_PRECONDITION")
    fleet.ctl_ok("client", "add", "--id", "laptop-9")
    pem = fleet.ctl_ok("cert", "generate", "--type", "client", "--subject", "laptop-9", "--csr", str(csr))
    assert openssl("x509", "-noout", "-pubkey", data=pem.encode()) == openssl("pkey", "-in", key, "-pubout")
    (listed,) = fleet.ctl_json("cert", "list", "--subject", "laptop-9")
    serial = listed["serial"]
    assert fleet.ctl_json("cert", "get", serial)["pem"] == pem
    assert pem in fleet.ctl_ok("cert", "get", serial)
    assert serial in fleet.ctl_ok("cert", "list")
    fleet.ctl_ok("cert", "revoke", serial, "--reason", "key_compromise")
    assert fleet.ctl_json("cert", "get", serial)["reason"] == "key_compromise"
    fleet.ctl_ok("cert", "crl", "--out", str(crl), "--der")
    text = openssl("crl", "-inform", "DER", "-in", crl, "-noout", "-text").decode()
    assert serial.lstrip("0").upper() in text.replace(":", "") and "Key Compromise" in text
    assert fleet.ctl("cert", "crl", env={"ADMIN_TOKEN": ""}).stdout.startswith("-----BEGIN X509 CRL-----")
    fleet.ctl_fails("cert", "revoke", serial, "--reason", "boredom", part="reason")


def test_a_private_key_is_only_shown_when_asked(fleet, tmp_path):
    arguments = ("cert", "generate", "--type", "server", "--subject", "k")
    fleet.ctl_fails(*arguments, status=2, part="--key-out")
    fleet.ctl_fails(*arguments, "--json", status=2, part="--key-out")
    assert "PRIVATE KEY" in fleet.ctl_ok(*arguments, "--key-out", "-")
    assert "PRIVATE KEY" in fleet.ctl_json(*arguments, "--key-out", "-")["key"]
    shown = fleet.ctl_json(*arguments, "--key-out", str(tmp_path / "k"))
    assert "key" not in shown and "PRIVATE KEY" in (tmp_path / "k").read_text()


def test_clients_clusters_and_headends_are_added_with_a_certificate(fleet, tmp_path):
    for kind in ("client", "cluster", "headend"):
        crt, key = tmp_path / f"{kind}.crt", tmp_path / f"{kind}.key"
        fleet.ctl_fails(kind, "add", "--id", f"with-{kind}", "--certificate", "--key-out", str(key), status=2, part="--cert-out")
        fleet.ctl_fails(kind, "add", "--id", f"with-{kind}", "--cert-out", str(crt), status=2, part="--certificate")
        out = fleet.ctl_ok(kind, "add", "--id", f"with-{kind}", "--certificate", "--cert-out", str(crt), "--key-out", str(key))
        assert "PRIVATE" not in out and out.startswith(f"{kind.upper()}_ID=with-{kind}\n")
        assert openssl("x509", "-in", crt, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")
        assert f"with-{kind}" in openssl("x509", "-in", crt, "-noout", "-subject").decode()
    added = fleet.ctl_json("client", "add", "--certificate", "--key-out", "-")
    assert added["certificate"]["certificate"]["subject"] == added["client_id"] and "PRIVATE" in added["certificate"]["key"]
    # A refused registration leaves no files.
    crt, key = tmp_path / "no.crt", tmp_path / "no.key"
    fleet.ctl_fails("client", "add", "--id", "with-client", "--certificate", "--cert-out", str(crt), "--key-out", str(key),
          part="ALREADY_EXISTS")
    assert not crt.exists() and not key.exists()


def test_a_request_has_a_limit(fleet, tmp_path):
    (tmp_path / "big").write_text("x" * (16 * 1024 + 1))
    fleet.ctl_fails("cert", "generate", "--type", "client", "--subject", "x", "--csr", str(tmp_path / "big"),
          part="has more than 16384 bytes")
    (tmp_path / "most").write_text("x" * (16 * 1024))
    fleet.ctl_fails("cert", "generate", "--type", "client", "--subject", "x", "--csr", str(tmp_path / "most"),
          part="INVALID_ARGUMENT")


# --- the audit log ---

def test_the_audit_log_has_every_act_and_no_secret(fleet):
    key = fleet.add_client("watched")
    rotated = fleet.ctl_json("client", "rotate-key", "watched")["api_key"]
    fleet.ctl_ok("client", "revoke", "watched")
    entries = fleet.ctl_json("audit", "--target", "watched")
    assert [entry["action"] for entry in entries] == ["client.add", "client.rotate_key", "client.revoke"]
    assert all(entry["who"].startswith("admin ") and entry["at_unix_ms"] > MS_2020 for entry in entries)
    text = json.dumps(fleet.ctl_json("audit"))
    assert key not in text and rotated not in text and fleet.admin_token not in text
    assert [entry["action"] for entry in fleet.ctl_json("audit", "--target", "watched", "--limit", "1")] == ["client.revoke"]
    assert len(fleet.ctl_json("audit", "--target", "watched", "--since", "1h")) == 3
    table = fleet.ctl_ok("audit", "--target", "watched")
    assert len(table.splitlines()) == 4 and table.startswith("TIME")
    fleet.ctl_fails("audit", "--limit", "0", status=2, part="limit")


# --- erasing ---

def test_erasing_lists_what_was_removed(fleet):
    key = fleet.add_client("erased")
    for value in (1, 2, 3):
        assert fleet.post_client("erased", key, {"metrics": {"bytes_sent": value}}).ok
    gone = fleet.ctl_json("client", "delete", "erased", "--erase")
    assert gone["done"] is True and gone["client_id"] == "erased" and gone["clients"] == 1
    assert gone["records"] >= 1 and gone["samples"] >= 1 and gone["fleet_rows"] == 1
    (one,) = gone["ingestds"]
    assert one["server"].startswith("tcp://127.0.0.1:") and one["samples"] == gone["samples"]
    table = fleet.ctl_ok("client", "delete", "erased", "--erase")  # again: it is remembered
    assert table.startswith("erased is erased\n") and "SAMPLES" in table
    fleet.ctl_fails("client", "delete", "never-was", "--erase", part="NOT_FOUND")
    fleet.ctl_fails("client", "delete", "erased", "--erase", "--server", "tcp://127.0.0.1:1", "--timeout", "200ms",
          part="UNAVAILABLE")


def test_every_ingestd_of_one_database_is_asked_to_erase(make_cluster, pb):
    two = make_cluster(start=False, registry="postgresql")
    other = two.add_ingestd()
    two.dial_all()
    two.start()
    key = two.add_client("everywhere")
    for i, ingestd in enumerate((two.ingestd, other)):
        wait_until(lambda u=ingestd.url: two.ctl("client", "get", "everywhere", "--server", u).returncode == 0, "it is known")
        for number in range(1, 2 + i):
            batch = pb.ingest.Batch(agent_id="a", boot_id=7, number=number)
            batch.clients.add(client_id="everywhere", time_unix_ms=[int(time.time() * 1000) + number], bytes_sent=[number])
            request = pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[key])

            def stored(r=request, u=ingestd.url):
                with two.rpc(url=u) as rpc:
                    return not rpc.submit(r).rejected
            wait_until(stored, "the key is known there")
    both = f"{two.ingestd.url},{other.url}"
    gone = two.ctl_json("client", "delete", "everywhere", "--erase", "--server", both)
    assert gone["done"] and gone["clients"] == 1 and gone["fleet_rows"] >= 1 and gone["samples"] == 3
    assert sorted((one["server"], one["samples"]) for one in gone["ingestds"]) == sorted(
        [(two.ingestd.url, 1), (other.url, 2)])


# --- arguments ---

def test_no_secret_is_taken_as_an_argument(fleet):
    for command in (["client", "list"], ["client", "import"], ["cert", "generate"], ["headend", "token"]):
        text = subprocess.run([binary("tobogganctl"), *command, "--help"], capture_output=True, text=True, timeout=60,
                              env=clean_environment(), check=True).stdout
        assert "--admin-token " not in text and "--admin-token-file" in text and "--key " not in text


def test_progress_is_shown_on_a_terminal_and_only_there(fleet, tmp_path):
    rows = "".join(f"p{i},0123456789abcdef\n" for i in range(4001))
    (tmp_path / "p.csv").write_text("client_id,api_key\n" + rows)
    master, terminal = pty.openpty()
    try:
        done = subprocess.run([binary("tobogganctl"), "client", "import", str(tmp_path / "p.csv")], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=False,
                              env=clean_environment(INGEST_URL=fleet.ingest_url, ADMIN_TOKEN=fleet.admin_token))
        assert done.returncode == 0 and done.stdout == b"4001 clients were added\n"
        shown = os.read(master, 4096).decode()
    finally:
        os.close(terminal)
        os.close(master)
    assert "2000 of 4001 clients sent" in shown and shown.endswith("\r\x1b[K")
    assert "clients sent" not in fleet.ctl("client", "import", str(tmp_path / "p.csv"), "--skip-existing").stderr
