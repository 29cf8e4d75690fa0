"""Short form of tests/torture/run bus-loss: an exporter that missed messages of the bus catches up."""
import random

from harness import sanitized
from torture import bus_loss


def test_an_exporter_whose_subscription_is_paused_cut_and_throttled_ends_equal_to_ingestd(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    size = (60_000, 2000) if sanitized() else (500_000, 5000)
    result = bus_loss.run(make_cluster, print, seed, *size)
    # The journal has what the bus has not: a snapshot is for those who begin.
    for case in ("paused", "cut", "throttled"):
        assert not result[f"{case}_snapshots_ms"], result
    assert result["cut_replays_ms"], result
