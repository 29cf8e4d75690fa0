"""cmake --install puts programs, units and configuration where Debian would."""
import os
import shutil
import subprocess

import pytest

from harness import BIN_DIR, PROGRAMS, ROOT, clean_environment

UNITS = ["tobogganing-ingestd.service", "tobogganing-gateway.service", "tobogganing-exporter.service",
         "tobogganing-agent@.service"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    if not (BIN_DIR / "cmake_install.cmake").exists():
        pytest.skip(f"{BIN_DIR} is no build folder")
    to = tmp_path_factory.mktemp("root")
    subprocess.run(["cmake", "--install", str(BIN_DIR), "--prefix", "/usr"], env={**os.environ, "DESTDIR": str(to)},
                   check=True, capture_output=True, timeout=120)
    return to


def test_the_programs_are_installed_and_run(installed):
    for name in PROGRAMS:
        done = subprocess.run([str(installed / "usr/bin" / name), "--version"], capture_output=True, text=True, timeout=60,
                              env=clean_environment(), check=False)
        assert done.returncode == 0 and done.stdout.startswith(name + " "), done.stderr


def test_the_units_and_the_prometheus_files_are_installed(installed):
    units = installed / "usr/lib/systemd/system"
    assert sorted(path.name for path in units.iterdir()) == sorted(UNITS)
    for name in ("prometheus.yml", "alerts.yml"):
        assert (installed / "usr/share/tobogganing/prometheus" / name).is_file()


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_the_units(installed, unit, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    text = (installed / "usr/lib/systemd/system" / unit).read_text()
    # The programs are not installed on this machine: any that is will do to have the rest checked.
    lines = ["ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in text.splitlines()]
    copy = tmp_path / unit.replace("@", "@client")
    copy.write_text("\n".join(lines) + "\n")
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "tobogganing" in line]
    assert not ours, done.stderr


def test_units_start_programs_that_are_installed(installed):
    for unit in UNITS:
        text = (installed / "usr/lib/systemd/system" / unit).read_text()
        program = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split("=")[1].split()[0]
        assert (installed / "usr/bin" / program).exists()
        assert "Type=notify" in text and "NoNewPrivileges=yes" in text


def readme_example():
    """The C program of the README."""
    text = (ROOT / "README.md").read_text()
    return text.split("```c\n")[1].split("```")[0]


def sanitizer_flags():
    """A library that was built with sanitizers needs a program that was too."""
    for line in (BIN_DIR / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("TOB_SANITIZE:") and not line.endswith("="):
            return ["-fsanitize=" + line.split("=", 1)[1]]
    return []


def test_a_program_reports_with_the_installed_library(installed, cluster, tmp_path):
    library = next((installed / "usr").rglob("libtobogganing-agent.so"))
    key = cluster.add_client("library-client")
    source, program = tmp_path / "reporter.c", tmp_path / "reporter"
    source.write_text(readme_example())
    subprocess.run(["cc", "-Wall", "-Werror", *sanitizer_flags(), "-I", str(installed / "usr/include"), str(source), "-o", str(program),
                    "-L", str(library.parent), "-ltobogganing-agent"], check=True, timeout=60)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "INGEST_URL": cluster.ingest_url,
                   "CLIENT_ID": "library-client", "API_KEY": key}
    subprocess.run([str(program)], timeout=60, check=True, env=environment)
    cluster.wait_value("tobogganing_client_bytes_sent", 4194304, client_id="library-client")
    subprocess.run([str(program)], timeout=60, check=False, env={**environment, "API_KEY": "wrong"})
    cluster.wait_value("tobogganing_manager_auth_attempts_total", 1, type="api_key", result="failure")


def test_the_library_shows_only_its_own_symbols(installed):
    library = next((installed / "usr").rglob("libtobogganing-agent.so"))
    done = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in done.stdout.splitlines()}
    assert names == {"tob_agent_open", "tob_agent_record_client", "tob_agent_record_headend", "tob_agent_flush",
                     "tob_agent_get_statistics", "tob_agent_close"}
