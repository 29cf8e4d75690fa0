"""Fixtures of the end-to-end tests. Run them with tests/run e2e."""
import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness import BIN_DIR, ROOT, Cluster

LOG_TAIL = 3000
_clusters = []


@pytest.fixture(scope="session", autouse=True)
def sanitizer_settings():
    """A finding of a sanitizer must end the program with a status that no test takes for success."""
    os.environ.setdefault("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    os.environ.setdefault("TSAN_OPTIONS", f"exitcode=99 suppressions={ROOT / 'tests' / 'tsan.supp'}")


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    """Protobuf classes for Python, made from our .proto files by protoc: what a foreign agent would use."""
    out = tmp_path_factory.mktemp("pb")
    files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    subprocess.run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={out}", *files], check=True)
    sys.path.insert(0, str(out))
    names = ("rpc", "ingest", "bus", "health", "registry", "process", "journal")
    modules = {name: importlib.import_module(f"tobogganing.v1.{name}_pb2") for name in names}
    return SimpleNamespace(**modules)


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory, pb):
    """Starts clusters; they are stopped, which has to succeed, after the module."""
    made = []

    def make(start=True, **options):
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), pb, **options)
        made.append(cluster)
        _clusters.append(cluster)
        return cluster.start() if start else cluster
    yield make
    for cluster in made:
        _clusters.remove(cluster)
    failures = []
    for cluster in made:
        try:
            cluster.stop()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def cluster(make_cluster):
    """One running cluster, shared by the tests of a module."""
    return make_cluster()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for cluster in _clusters:
            for daemon in cluster.daemons:
                if daemon.log_path.exists():
                    text = daemon.log_path.read_text(errors="replace")
                    report.sections.append((f"log of {daemon.name}", text[-LOG_TAIL:]))


def pytest_report_header():
    return f"programs: {BIN_DIR}"
