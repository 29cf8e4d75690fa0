"""ingestd starts on a database, or says why not."""
import secrets
import subprocess

import pytest

from harness import lone_ingestd, wait_until


def alone(tmp_path, options, env=None):
    """One ingestd, not started, with a state folder of its own."""
    return lone_ingestd(tmp_path / f"state-{secrets.token_hex(4)}", *options, **(env or {}))


@pytest.fixture
def database(server, tmp_path):
    """Options for an empty database of its own."""
    name = server.make_database()
    password = tmp_path / "password"
    password.write_text(server.password)
    yield ["--registry", server.url(name), "--registry-password-file", str(password)]
    server.drop_database(name)


def test_ingestd_waits_for_a_database_that_is_not_there_yet(server, tmp_path, database):
    server.stop()
    waiting, impatient = (alone(tmp_path, database).start(wait=False) for _ in range(2))
    try:
        for daemon in (waiting, impatient):
            wait_until(lambda d=daemon: "event=registry_away" in d.log(), "it says so")
        impatient.stop()  # with success
        assert waiting.running() and "event=ready" not in waiting.log()
    finally:
        server.restart()
    waiting.wait_ready()
    waiting.stop()


def test_a_newer_schema_is_refused_and_left_alone(server, tmp_path, database):
    for options in (database, ["--registry", f"sqlite:{tmp_path}/registry.db"]):
        daemon = alone(tmp_path, options).start()
        daemon.stop()
    server.execute("INSERT INTO schema_version VALUES (999, 1)", database[1].rsplit("/", 1)[1])
    subprocess.run(["/usr/bin/python3", "-c", "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
                    "d.execute('INSERT INTO schema_version VALUES (999, 1)'); d.commit()", f"{tmp_path}/registry.db"],
                   check=True)
    for options in (database, ["--registry", f"sqlite:{tmp_path}/registry.db"]):
        status, log = alone(tmp_path, options).start_fails()
        assert status in (1, 2) and "version 999" in log and "newer version of this program" in log, log


def test_a_second_ingestd_on_one_sqlite_file_is_refused(tmp_path):
    options = ["--registry", f"sqlite:{tmp_path}/registry.db"]
    first = alone(tmp_path, options).start()
    status, log = alone(tmp_path, options).start_fails()
    assert status in (1, 2) and "another process has it open" in log and "postgresql://" in log, log
    first.stop()


def test_a_wrong_password_ends_the_start_and_is_not_repeated(server, tmp_path, database):
    secret = "Sup3rSecret"
    (tmp_path / "password").write_text(secret + "\n")
    status, log = alone(tmp_path, database).start_fails()
    assert status in (1, 2) and "password authentication failed" in log and secret not in log, log
    with_password = database[1].replace("tobogganing@", f"tobogganing:{secret}@")
    status, log = alone(tmp_path, [], {"TOBOGGANING_REGISTRY": with_password}).start_fails()
    assert status in (1, 2) and "password authentication failed" in log and secret not in log, log
    status, log = alone(tmp_path, [], {"TOBOGGANING_REGISTRY": with_password.replace(secret, "Sup3r@Secret")}).start_fails()
    assert status == 2 and "TOBOGGANING_REGISTRY" in log and "Sup3r" not in log and "Secret@" not in log, log


def test_a_password_on_the_command_line_is_refused(server, tmp_path, database):
    for secret in ("Sup3rSecret", "Sup3r/Secret"):
        status, log = alone(tmp_path, ["--registry", database[1].replace("tobogganing@", f"tobogganing:{secret}@")]).start_fails()
        assert status == 2 and "--registry" in log and "password" in log and "Sup3r" not in log, log
    status, log = alone(tmp_path, ["--registry", database[1] + "?password=Sup3rSecret"]).start_fails()
    assert status == 2 and "Sup3r" not in log, log


def test_a_password_in_the_environment_is_fine_and_nowhere_else(server, tmp_path, database):
    url = database[1].replace("tobogganing@", f"tobogganing:{server.password}@")
    daemon = alone(tmp_path, [], {"TOBOGGANING_REGISTRY": url}).start()
    arguments = open(f"/proc/{daemon.process.pid}/cmdline", "rb").read()
    assert server.password.encode() not in arguments
    daemon.stop()
    assert server.password not in daemon.log()
