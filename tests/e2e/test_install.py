"""cmake --install puts programs, units and configuration where Debian would."""
import os
import shutil
import subprocess

import pytest

from harness import BIN_DIR, PROGRAMS, clean_environment

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


REPORTER = r"""
#include <stdio.h>
#include <stdlib.h>

#include <tobogganing/agent.h>

int main(void) {
    tob_agent *agent = NULL;
    tob_agent_options options = {.server = getenv("INGEST_URL"), .agent_id = "my-router"};
    tob_agent_client_sample sample = {.present = TOB_AGENT_BYTES_SENT | TOB_AGENT_CONNECTION_UPTIME,
                                      .bytes_sent = 1048576,
                                      .connection_uptime_ms = 12345670};
    if (tob_agent_open(&options, &agent) != TOB_AGENT_OK ||
        tob_agent_record_client(agent, getenv("CLIENT_ID"), getenv("API_KEY"), 0, &sample) != TOB_AGENT_OK) {
        return 1;
    }
    tob_agent_status flushed = tob_agent_flush(agent, 10000);
    tob_agent_statistics statistics;
    tob_agent_get_statistics(agent, &statistics);
    printf("%d %d acknowledged=%d rejected=%d\n", flushed, tob_agent_close(agent, 1000), (int)statistics.acknowledged,
           (int)statistics.rejected);
    return 0;
}
"""


def test_a_program_reports_with_the_installed_library(installed, cluster, tmp_path):
    library = next((installed / "usr").rglob("libtobogganing-agent.so"))
    key = cluster.add_client("library-client")
    source, program = tmp_path / "reporter.c", tmp_path / "reporter"
    source.write_text(REPORTER)
    subprocess.run(["cc", "-Wall", "-Werror", "-I", str(installed / "usr/include"), str(source), "-o", str(program),
                    "-L", str(library.parent), "-ltobogganing-agent"], check=True, timeout=60)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "LD_LIBRARY_PATH": str(library.parent), "INGEST_URL": cluster.ingest_url,
                               "CLIENT_ID": "library-client", "API_KEY": key})
    assert done.stdout == "0 0 acknowledged=1 rejected=0\n", done.stdout + done.stderr


def test_the_library_shows_only_its_own_symbols(installed):
    library = next((installed / "usr").rglob("libtobogganing-agent.so"))
    done = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in done.stdout.splitlines()}
    assert names == {"tob_agent_open", "tob_agent_record_client", "tob_agent_record_headend", "tob_agent_flush",
                     "tob_agent_get_statistics", "tob_agent_close"}
