"""The real ingestd under the shim (tests/torture/shim.c): a failed sync ends it, the start after that has what was
acknowledged, and a checkpoint that can't be written is nobody's problem. Every system call in turn is tried at the level of
the store (torture/syscalls in ctest)."""
import random

import pytest
import requests

from harness import DEADLINE, sanitized, wait_until
from torture.shim import Shim

KILLED = -9

pytestmark = pytest.mark.skipif(sanitized(), reason="a sanitizer's library must be loaded before the shim")


class Bed:
    """One ingestd with small segments and many checkpoints, and one client that reports by HTTP."""

    def __init__(self, make_cluster):
        self.cluster = make_cluster(
            start=False, ingestd_options=["--journal-segment-bytes", "1MiB", "--checkpoint-bytes", "64KiB",
                                          "--checkpoint-interval", "1s"])
        self.shim = Shim(self.cluster.ingestd, self.cluster.folder, match="/journal/")
        self.cluster.start()
        self.key = self.cluster.add_client("c1")
        self.acked = 0

    def submit(self, timeout=DEADLINE):
        """The next value; True when it was acknowledged."""
        value = self.acked + 1
        try:
            answer = self.cluster.post_client("c1", self.key, {"metrics": {"bytes_sent": value}}, timeout=timeout)
        except requests.RequestException:
            return False
        assert answer.status_code in (200, 502, 503, 504), answer.text
        if answer.status_code == 200:
            self.acked = value
        return answer.status_code == 200

    def order(self, **orders):
        self.shim.tell(**{"match": "/journal/", **orders})

    def ended(self):
        """Submits until ingestd has ended, and returns its status."""
        ingestd = self.cluster.ingestd

        def gone():
            self.submit(timeout=0.5)  # the gateway waits for it to come back
            return not ingestd.running()
        wait_until(gone, "ingestd has ended")
        process, ingestd.process = ingestd.process, None
        return process.wait()

    def restart(self):
        """Without the shim's orders: what was acknowledged is there, or the one after it, and more is taken."""
        self.shim.clear()
        self.cluster.ingestd.start()
        shown = wait_until(self.shown, "the exporter has the client")
        assert shown in (self.acked, self.acked + 1)
        wait_until(self.submit, "reports are taken again")
        self.cluster.wait_value("tobogganing_client_bytes_sent", self.acked, client_id="c1")

    def shown(self):
        value = self.cluster.scrape().value("tobogganing_client_bytes_sent", client_id="c1")
        return value if value and value >= self.acked else None


@pytest.fixture(scope="module")
def bed(make_cluster):
    bed = Bed(make_cluster)
    assert bed.submit()
    return bed


def test_a_failed_fdatasync_ends_ingestd_and_the_next_start_has_all_that_was_acknowledged(bed):
    for _ in range(3):
        bed.order(do="eio", call="fdatasync")
        assert bed.ended() == 1
        log = bed.cluster.ingestd.log()
        assert "level=error" in log and "sync failed" in log, log[-2000:]
        bed.restart()


def test_a_write_that_fails_is_refused_and_ingestd_stays(bed):
    bed.order(do="enospc")
    assert not bed.submit()
    assert bed.cluster.ingestd.running()
    bed.shim.clear()
    wait_until(bed.submit, "reports are taken again")


def test_a_checkpoint_that_fails_harms_nothing_else(bed):
    bed.order(do="eio", match="checkpoint")

    def failed():
        assert bed.submit()
        return "event=checkpoint_failed" in bed.cluster.ingestd.log()
    wait_until(failed, "a checkpoint has failed")
    bed.shim.clear()

    def made():
        assert bed.submit()
        return "event=checkpoint " in bed.cluster.ingestd.log().rsplit("event=checkpoint_failed", 1)[1]
    wait_until(made, "a later one is made")
    bed.cluster.ingestd.kill()
    bed.restart()


def test_killed_at_any_call_it_starts_again_with_all_that_was_acknowledged(bed):
    rng = random.Random(7)
    for _ in range(4):
        bed.cluster.ingestd.stop()
        what = rng.choice(["kill", "kill-after", "kill-within"])
        bed.order(do=what, at=rng.randrange(5, 60))
        bed.cluster.ingestd.start(wait=False)
        assert bed.ended() == KILLED
        bed.restart()
