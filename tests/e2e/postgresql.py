"""PostgreSQL servers of the tests' own, and databases in them."""
import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import pytest

COMMAND = Path(__file__).resolve().parents[1] / "postgresql"
PSQL = "/usr/lib/postgresql/15/bin/psql"
USER = "tobogganing"
TIMEOUT = 120


class Postgresql:
    """One server on a free port of loopback, which ends with this process however that ends."""

    def __init__(self):
        # Not in a folder of pytest's: the server's user may not enter those.
        self.folder = Path(tempfile.gettempdir()) / f"tob-postgresql-{secrets.token_hex(8)}"
        done = subprocess.run([COMMAND, "start", self.folder, "--pid", str(os.getpid())], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode == 77:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        self.password = (self.folder / "password").read_text().strip()
        self.port = int((self.folder / "port").read_text())
        self.databases = 0

    def _control(self, *arguments):
        subprocess.run([COMMAND, arguments[0], self.folder, *arguments[1:]], stdin=subprocess.DEVNULL, check=True,
                       timeout=TIMEOUT)

    def stop(self, mode="fast"):
        self._control("stop", mode)

    def restart(self):
        """Starts it again, on the same port."""
        self._control("restart")

    def url(self, database, user=USER):
        """Without the password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, statements, database="postgres"):
        """Carries out SQL as another program would; returns rows as lists of texts."""
        done = subprocess.run([PSQL, "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", self.url(database)],
                              input=statements, env={**os.environ, "PGPASSWORD": self.password}, capture_output=True,
                              text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def make_database(self):
        self.databases += 1
        name = f"test{self.databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name):
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class SqliteRegistry:
    """Each ingestd has a file of its own."""

    def options(self):
        return []

    def remove(self):
        pass


class PostgresqlRegistry:
    """A database that all ingestd of a cluster share. The password is in a file."""

    def __init__(self, server, folder):
        self.server = server
        self.database = server.make_database()
        self.password_file = Path(folder) / "registry-password"
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(server.password + "\n")

    def options(self):
        return ["--registry", self.server.url(self.database), "--registry-password-file", str(self.password_file)]

    def execute(self, statements):
        return self.server.execute(statements, self.database)

    def remove(self):
        self.server.drop_database(self.database)


_shared = []


def shared_server():
    """The server of this process; started for the first who asks."""
    if not _shared:
        _shared.append(Postgresql())
    return _shared[0]
