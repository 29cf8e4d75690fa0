"""A daemon whose configuration is wrong says which option, and stops; --help works whatever else is wrong."""
import json
import os
import re
import socket
import subprocess

import pytest

from harness import DEADLINE, Daemon, binary, clean_environment, free_port

GOOD = {
    "ingestd": (["--listen", "tcp://127.0.0.1:0", "--bus-listen", "tcp://127.0.0.1:0", "--state-dir", "{tmp}"],
                {"ADMIN_TOKEN": "a", "CLUSTER_TOKEN": "c"}),
    "gateway": (["--listen", "127.0.0.1:0"], {"CLUSTER_TOKEN": "c"}),
    "exporter": (["--listen", "127.0.0.1:0"], {"CLUSTER_TOKEN": "c", "METRICS_TOKEN": "m"}),
}
DAEMONS = list(GOOD)


def run(daemon, tmp_path, arguments=(), env=None, without=()):
    options, environment = GOOD[daemon]
    options = [option.replace("{tmp}", str(tmp_path)) for option in options]
    for option in without:
        if option in options:
            at = options.index(option)
            del options[at:at + 2]
    environment = {name: value for name, value in environment.items() if name not in without}
    environment.update(env or {})
    return subprocess.run([binary(f"tobogganing-{daemon}"), *options, *arguments], env=clean_environment(**environment),
                          capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("daemon, arguments, env, without, part", [
    ("ingestd", [], {}, ["ADMIN_TOKEN"], "ADMIN_TOKEN"),
    ("ingestd", [], {}, ["CLUSTER_TOKEN"], "CLUSTER_TOKEN"),
    ("ingestd", [], {}, ["--state-dir"], "--state-dir"),
    ("ingestd", ["--listen", "ipc:///tmp/x"], {}, [], "--listen"),
    ("ingestd", ["--listen", "nonsense"], {}, [], "--listen"),
    ("ingestd", ["--bus-listen", "nonsense"], {}, [], "--bus-listen"),
    ("ingestd", ["--registry", "mysql://x"], {}, [], "--registry"),
    ("ingestd", ["--journal-sync", "sometimes"], {}, [], "--journal-sync"),
    ("ingestd", ["--jwks-file", "/nonexistent/jwks"], {}, [], "--jwks-file"),
    ("ingestd", ["--report-interval", "soon"], {}, [], "--report-interval"),
    ("ingestd", ["--admin-token-file", "/nonexistent"], {}, ["ADMIN_TOKEN"], "--admin-token-file"),
    ("gateway", [], {}, ["CLUSTER_TOKEN"], "CLUSTER_TOKEN"),
    ("gateway", ["--listen", "nonsense"], {}, ["--listen"], "--listen"),
    ("gateway", ["--listen", "127.0.0.1:70000"], {}, ["--listen"], "--listen"),
    ("gateway", ["--ingest", "http://x"], {}, [], "--ingest"),
    ("gateway", ["--exporter", "nonsense"], {}, [], "--exporter"),
    ("gateway", ["--max-body-bytes", "many"], {}, [], "--max-body-bytes"),
    ("gateway", ["--workers", "-1"], {}, [], "--workers"),
    ("exporter", [], {}, ["METRICS_TOKEN"], "METRICS_TOKEN"),
    ("exporter", [], {}, ["CLUSTER_TOKEN"], "CLUSTER_TOKEN"),
    ("exporter", [], {"METRICS_TOKEN": " , "}, [], "METRICS_TOKEN"),
    ("exporter", ["--metrics-token-file", "/nonexistent"], {}, ["METRICS_TOKEN"], "--metrics-token-file"),
    ("exporter", ["--bus", "junk"], {}, [], "--bus"),
    ("exporter", ["--expire-after", "never"], {}, [], "--expire-after"),
])
def test_a_wrong_setting_is_named(daemon, arguments, env, without, part, tmp_path):
    done = run(daemon, tmp_path, arguments, env, without)
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    assert part in done.stderr, done.stderr
    assert "event=ready" not in done.stderr


@pytest.mark.parametrize("daemon", DAEMONS)
def test_what_every_daemon_refuses(daemon, tmp_path):
    for arguments, part in ((["--bogus"], "--bogus"), (["stray"], "stray"), (["--log-level", "loud"], "log-level"),
                            (["--log-format", "xml"], "log-format"), (["--listen"], "--listen")):
        done = run(daemon, tmp_path, arguments)
        assert done.returncode == 2 and part in done.stderr, done.stderr


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_bad_value_in_the_environment_is_named(daemon, tmp_path):
    done = run(daemon, tmp_path, env={"TOBOGGANING_LOG_LEVEL": "loud"})
    assert done.returncode == 2 and "TOBOGGANING_LOG_LEVEL" in done.stderr, done.stderr


@pytest.mark.parametrize("daemon", DAEMONS)
def test_secrets_are_no_flags(daemon, tmp_path):
    for flag in ("--admin-token", "--cluster-token", "--metrics-token"):
        done = run(daemon, tmp_path, [flag, "s3cret"])
        assert done.returncode == 2 and flag in done.stderr


@pytest.mark.parametrize("program", ["ingestd", "gateway", "exporter", "agent client", "agent headend"])
def test_help_and_version(program):
    name, *mode = program.split()
    for arguments, part in ((["--help"], "OPTIONS"), (["--version"], f"tobogganing-{name} ")):
        done = subprocess.run([binary(f"tobogganing-{name}"), *mode, *arguments], env=clean_environment(),
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and part in done.stdout and not done.stderr, done.stderr
    done = subprocess.run([binary(f"tobogganing-{name}"), *mode, "--help"], env=clean_environment(),
                          capture_output=True, text=True, timeout=60, check=False)
    options = re.findall(r"^  (--[a-z-]+)", done.stdout, re.MULTILINE)
    assert len(options) >= 4 and {"--help", "--version", "--log-level"} <= set(options)
    assert len(options) == len(set(options))


@pytest.mark.parametrize("option", ["--listen", "--bus-listen"])
def test_a_port_that_is_taken_is_said_by_ingestd(option, tmp_path):
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = run("ingestd", tmp_path, [option, f"tcp://127.0.0.1:{port}"])
    assert done.returncode in (1, 2) and str(port) in done.stderr, done.stderr


def test_a_state_folder_that_cannot_be_used_is_said(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run("ingestd", tmp_path, ["--state-dir", str(blocked / "sub")], without=["--state-dir"])
    assert done.returncode in (1, 2) and "file" in done.stderr, done.stderr


def test_a_registry_that_is_no_database_is_said(tmp_path):
    (tmp_path / "registry.db").write_text("this is no database, and long enough to be taken for one" * 50)
    done = run("ingestd", tmp_path)
    assert done.returncode in (1, 2) and "registry" in done.stderr, done.stderr


def test_state_is_readable_by_its_owner_only(tmp_path):
    options, env = GOOD["ingestd"]
    daemon = Daemon("ingestd", [binary("tobogganing-ingestd"), *[o.replace("{tmp}", str(tmp_path / "state")) for o in options]],
                    clean_environment(**env), tmp_path / "log")
    (tmp_path / "state").mkdir()
    daemon.start()
    daemon.stop()
    for name in ("registry.db", "instance"):
        assert os.stat(tmp_path / "state" / name).st_mode & 0o077 == 0, name


def test_json_logs_are_json(tmp_path):
    (tmp_path / "state").mkdir()
    options, env = GOOD["ingestd"]
    daemon = Daemon("ingestd", [binary("tobogganing-ingestd"), *[o.replace("{tmp}", str(tmp_path / "state")) for o in options],
                                "--log-format", "json"], clean_environment(**env), tmp_path / "log", '"event":"ready"')
    daemon.start()
    daemon.stop()
    events = [json.loads(line) for line in daemon.log().splitlines()]
    assert all({"time", "level", "program", "event"} <= event.keys() for event in events)
    ports = [event["port"] for event in events if event["event"] == "listening"]
    assert len(ports) == 2 and all(port > 0 for port in ports)
    assert events[-1]["event"] == "stopped"
