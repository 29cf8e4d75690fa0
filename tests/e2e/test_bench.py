"""The benches run and say what they promise. What they measure is not judged here: machines differ."""
import json
import subprocess

import pytest

from harness import BIN_DIR, ROOT

FIELDS = {
    "machine": ("cores", "cpu", "kernel", "filesystem", "fdatasync_us"),
    "ingest-agent": ("reports_per_s", "reports_per_cpu_s", "wire_bytes_per_report", "p50_ms", "p99_ms",
                     "limit_reports_per_cpu_s", "limit_ratio"),
    "ingest-relay": ("reports_per_s", "reports_per_cpu_s", "wire_bytes_per_report", "p50_ms", "p99_ms",
                     "limit_reports_per_cpu_s", "limit_ratio"),
    "gateway-json": ("requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms", "limit_requests_per_s",
                     "limit_cpu_us_per_request", "limit_ratio"),
    "checkpoint": ("clients", "reports_per_s_without", "p99_ms_without", "max_ms_without", "reports_per_s_with", "p99_ms_with",
                   "max_ms_with", "checkpoints", "checkpoint_bytes", "longest_pause_us"),
    "scrape": ("series_per_s", "series_per_cpu_s", "gzip_series_per_s", "first_byte_ms", "body_bytes",
               "rss_bytes_per_client", "limit_memcpy_series_per_cpu_s", "limit_zlib_series_per_cpu_s"),
    "recovery": ("clients", "records", "checkpoint_bytes", "journal_bytes", "recovery_cpu_s", "page_mean_ms",
                 "page_max_ms", "group_max_ms"),
    "import": ("clients", "sqlite_s", "sqlite_export_s", "postgresql_s", "postgresql_export_s"),
}


@pytest.mark.skipif(not (BIN_DIR / "tests" / "bench").exists(), reason="the build has no load generators (TOB_BENCH)")
def test_every_bench_runs_and_prints_all_of_its_fields():
    done = subprocess.run([ROOT / "tests" / "bench" / "run", "--smoke", "--no-install", "--bin-dir", BIN_DIR],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    results = {result["bench"]: result for result in map(json.loads, done.stdout.splitlines())}
    assert set(results) == set(FIELDS)
    for name, fields in FIELDS.items():
        for field in fields:
            value = results[name][field]
            assert isinstance(value, str) and value or value > 0, f"{name}: {field} is {value!r}"


def test_a_bench_that_does_not_exist_is_an_error_that_names_those_that_do():
    done = subprocess.run([ROOT / "tests" / "bench" / "run", "--no-install", "--bin-dir", BIN_DIR, "nothing"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "ingest-agent" in done.stderr and not done.stdout
