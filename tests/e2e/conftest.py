"""Fixtures of the end-to-end tests. Run them with tests/run e2e."""
import os
import subprocess

import pytest

from harness import BIN_DIR, ROOT, Cluster, load_protobuf, own_address
from peers import Pair
from postgresql import Postgresql

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
    """Protobuf classes for Python: what a foreign agent would use."""
    return load_protobuf(tmp_path_factory.mktemp("pb"))


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
            cluster.remove()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def cluster(make_cluster):
    """One running cluster, shared by the tests of a module."""
    return make_cluster()


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of the module's own, which its tests stop and start."""
    return Postgresql()


@pytest.fixture(scope="module")
def pair(make_cluster, server):
    """Two ingestd, with gateway and exporter, that start at once on an empty database."""
    cluster = make_cluster(start=False, registry=server)
    cluster.add_ingestd()
    cluster.dial_all()
    for daemon in cluster.ingestds:
        daemon.state_dir.mkdir(exist_ok=True)
        daemon.start(wait=False)
    for daemon in cluster.daemons:
        if daemon.running():
            daemon.wait_ready()
        else:
            daemon.start()
    cluster.wait_ready()
    both = Pair(cluster)
    yield both
    both.close()
    for daemon in cluster.ingestds:
        assert server.password not in daemon.log_path.read_text(), "the password is in a log"


@pytest.fixture(autouse=True)
def an_address_for_each_test():
    """Tests try many wrong credentials, and those slow down the address that they come from."""
    address = own_address()
    for cluster in _clusters:
        cluster.come_from(address)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)],
                                                   capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("can't mount a small file system (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


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
    return f"programs: {BIN_DIR}, registry: {os.environ.get('TOB_TEST_REGISTRY') or 'sqlite'}"
