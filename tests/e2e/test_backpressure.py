"""Short form of tests/torture/run backpressure; and a disk that is full while a checkpoint is due."""
import random

import pytest

from harness import sanitized, wait_until
from test_disk_full import fill
from torture import backpressure
from torture.fleet import health


@pytest.mark.skipif(sanitized(), reason="a sanitizer's runtime has to be loaded before every other library")
def test_callers_are_sent_away_before_memory_or_disk_run_out_and_all_is_well_afterwards(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(backpressure.run(make_cluster, print, seed))


def test_a_checkpoint_that_finds_no_room_costs_nothing_but_itself(make_cluster, small_disk):
    cluster = make_cluster(start=False, ingestd_options=["--journal-segment-bytes", "1MiB", "--checkpoint-interval", "1s"])
    cluster.use_state_dir(small_disk / "state")
    cluster.start()
    key = cluster.add_client("c1")

    def submit(value):
        return cluster.post_client("c1", key, {"metrics": {"bytes_sent": value}}).status_code

    value = 1
    assert submit(value) == 200
    fill(small_disk)
    # The present segment has room for some reports still; a checkpoint has none.
    made = health(cluster).checkpoint_unix_ms
    while "event=checkpoint_failed" not in cluster.ingestd.log():
        assert cluster.ingestd.running()
        value += 1
        if submit(value) != 200:
            break
    wait_until(lambda: "event=checkpoint_failed" in cluster.ingestd.log(), "the checkpoint failed, and that is said")
    cluster.wait_value("tobogganing_client_bytes_sent", value if submit(value) == 200 else value - 1, client_id="c1")

    (small_disk / "ballast").unlink()
    wait_until(lambda: submit(value) == 200, "reports are taken")
    wait_until(lambda: health(cluster).checkpoint_unix_ms > made, "there is a checkpoint")
    cluster.ingestd.kill()
    cluster.ingestd.start()
    cluster.wait_value("tobogganing_client_bytes_sent", value, client_id="c1")
