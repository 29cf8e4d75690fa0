"""Short form of tests/torture/run sync-modes; and what the option takes."""
import random

import pytest

from harness import wait_until
from torture import sync_modes
from torture.fleet import health


def test_no_mode_loses_what_was_acknowledged_by_a_kill(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(sync_modes.run(make_cluster, print, seed))


@pytest.mark.parametrize("mode", ["", "sometimes", "interval", "interval:", "interval:0", "interval:60001", "interval:5x",
                                  "interval:-1", "always:5"])
def test_a_mode_that_is_none_is_refused(make_cluster, mode):
    cluster = make_cluster(start=False, ingestd_options=["--journal-sync", mode])
    cluster.ingestd.start(wait=False)
    try:
        assert cluster.ingestd.process.wait(30) == 2
        assert "journal-sync" in cluster.ingestd.log()
    finally:
        cluster.ingestd.process = None


@pytest.mark.parametrize("mode", ["interval:1", "interval:60000"])
def test_the_ends_of_the_interval_work(make_cluster, mode):
    cluster = make_cluster(ingestd_options=["--journal-sync", mode])
    key = cluster.add_client("c1")
    for value in (1, 2, 3):
        assert cluster.post_client("c1", key, {"metrics": {"bytes_sent": value}}).status_code == 200
    cluster.ingestd.kill()
    cluster.ingestd.start()
    wait_until(lambda: health(cluster).stored_samples == 3, "everything acknowledged is there")
    cluster.wait_value("tobogganing_client_bytes_sent", 3, client_id="c1")
