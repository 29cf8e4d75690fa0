"""tobogganctl client import and export: fleets move from one registry into another with their keys."""
import csv
import io
import os
import re
import stat
import subprocess
import time

import pytest

from harness import binary, clean_environment, sanitized, wait_until

MANY = 100_000


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.ctl_ok("cluster", "add", "--id", "base")
    return cluster


def write(folder, rows, columns="client_id", name="clients.csv"):
    path = folder / name
    path.write_text("\n".join([columns, *rows]) + "\n")
    return str(path)


def read_keys(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["client_id"]: row["api_key"] for row in csv.DictReader(file)}


def test_imported_clients_report_with_the_keys_that_were_made(fleet, tmp_path):
    rows = ['i1,"Laptop, the ""first""",mobile,base,wg=,"Oslo, NO"', "i2,,,,,"]
    path = write(tmp_path, rows, "client_id,name,type,cluster_id,public_key,location")
    keys_out = tmp_path / "keys.csv"
    assert fleet.ctl_json("client", "import", path, "--keys-out", str(keys_out)) == {
        "added": 2, "skipped": 0, "keys_made": 2, "dry_run": False}
    assert stat.S_IMODE(os.stat(keys_out).st_mode) == 0o600
    keys = read_keys(keys_out)
    for client_id in ("i1", "i2"):
        assert fleet.post_client(client_id, keys[client_id], {"metrics": {"bytes_sent": 8}}).ok
    assert fleet.post_client("i1", keys["i2"], {}).status_code == 401
    first = fleet.ctl_json("client", "get", "i1")
    assert (first["name"], first["type"], first["cluster_id"], first["public_key"], first["location"]) == (
        'Laptop, the "first"', "mobile", "base", "wg=", "Oslo, NO")
    assert fleet.ctl_json("client", "get", "i2")["name"] == "i2"
    fleet.wait_value("tobogganing_client_bytes_sent", 8, client_id="i1", name='Laptop, the "first"', type="mobile")


def test_a_windows_file_with_a_byte_order_mark_is_read(fleet, tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffname,client_id,api_key\r\n\"Zwei\r\n".encode() + b"")
    assert "not closed" in fleet.ctl("client", "import", str(path)).stderr
    path.write_bytes("\ufeffname,client_id,api_key\r\n\"Zwéi\",win-1,tobk_of-another-system\r\n".encode())
    assert fleet.ctl_ok("client", "import", str(path)) == "1 clients were added\n"
    assert fleet.post_client("win-1", "tobk_of-another-system", {}).ok


def test_an_import_is_all_or_nothing(fleet, tmp_path):
    fleet.add_client("taken")
    before = len(fleet.ctl_json("client", "list"))
    keys = tmp_path / "keys.csv"
    for rows, columns, part in ((["n1", "taken"], "client_id", "taken"),
                                (["n1,base", "n2,nowhere"], "client_id,cluster_id", "nowhere")):
        done = fleet.ctl("client", "import", write(tmp_path, rows, columns), "--keys-out", str(keys))
        assert done.returncode == 1 and part in done.stderr, done.stderr
        assert not keys.exists()
    assert len(fleet.ctl_json("client", "list")) == before
    done = fleet.ctl("client", "import", write(tmp_path, ["n1", "taken"]), "--keys-out", str(keys), "--skip-existing")
    assert done.stdout == "1 clients were added, 1 are registered and were left out\n"
    assert read_keys(keys).keys() == {"n1"}


def test_every_mistake_in_a_file_is_told_with_its_place(fleet, tmp_path):
    path = write(tmp_path, ["ok,native", "a b,native", "x,toaster", "x,native", "y"], "client_id,type")
    done = fleet.ctl("client", "import", path, "--keys-out", str(tmp_path / "k"))
    assert done.returncode == 1 and done.stdout == ""
    places = re.findall(r"^\S+clients\.csv:(\d+):(\d+): ", done.stderr, re.M)
    assert places == [("3", "1"), ("4", "3"), ("6", "1"), ("5", "1")]
    assert done.stderr.endswith("tobogganctl: nothing was sent\n")
    assert fleet.ctl("client", "get", "ok").returncode == 1


def test_stdin_is_read_and_keys_may_go_to_stdout(fleet):
    done = subprocess.run([binary("tobogganctl"), "client", "import", "-", "--keys-out", "-"], input="client_id\npiped\n",
                          text=True, capture_output=True, timeout=60, check=False,
                          env=clean_environment(INGEST_URL=fleet.ingest_url, ADMIN_TOKEN=fleet.admin_token))
    assert done.returncode == 0 and done.stderr == "1 clients were added\n"
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert fleet.post_client("piped", row["api_key"], {}).ok


def test_a_file_over_the_limit_is_refused(fleet, tmp_path):
    path = tmp_path / "big.csv"
    with open(path, "wb") as file:
        file.truncate((256 << 20) + 1)
    done = fleet.ctl("client", "import", str(path))
    assert done.returncode == 1 and f"has more than {256 << 20} bytes" in done.stderr


def test_an_exported_fleet_keeps_its_keys_in_another_registry(make_cluster, tmp_path):
    old = make_cluster()
    keys = {f"e{i}": old.add_client(f"e{i}", name=f'E "{i}", é', type="docker", location="x,y") for i in range(3)}
    old.ctl_ok("client", "revoke", "e2")
    plain = old.ctl_ok("client", "export")
    assert plain.splitlines()[0] == "client_id,name,type,cluster_id,public_key,location"
    assert not any(key in plain for key in keys.values())
    done = old.ctl("client", "export", "--with-key-hashes")
    assert done.stderr == "tobogganctl: 1 revoked clients are left out\n"
    path = tmp_path / "export.csv"
    path.write_text(done.stdout)
    new = make_cluster()
    assert new.ctl_ok("client", "import", str(path)) == "2 clients were added\n"
    assert new.ctl("client", "export", "--with-key-hashes").stdout == done.stdout
    for client_id in ("e0", "e1"):
        assert new.post_client(client_id, keys[client_id], {}).ok
    assert new.post_client("e2", keys["e2"], {}).status_code == 401


def test_a_hundred_thousand_clients_are_imported_in_under_10_seconds(make_cluster, tmp_path):
    fleet = make_cluster()
    for i in range(10):
        fleet.ctl_ok("cluster", "add", "--id", f"c{i}")
    path = write(tmp_path, [f"m{i:06},Laptop {i},native,c{i % 10},{'K' * 44},us-east" for i in range(MANY)],
                 "client_id,name,type,cluster_id,public_key,location")
    keys_out = tmp_path / "keys.csv"
    began = time.monotonic()
    done = fleet.ctl("client", "import", path, "--keys-out", str(keys_out), timeout=300)
    took = time.monotonic() - began
    assert done.returncode == 0 and done.stdout == f"{MANY} clients were added\n", done.stderr
    assert took < (60 if sanitized() else 10)
    keys = read_keys(keys_out)
    assert len(keys) == MANY
    for client_id in ("m000000", "m050000", "m099999"):
        assert fleet.post_client(client_id, keys[client_id], {}).ok
    wait_until(lambda: fleet.scrape().value("tobogganing_manager_clients_total") == MANY, "all of them are counted")
