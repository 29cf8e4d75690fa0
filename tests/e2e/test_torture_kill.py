"""Short form of tests/torture/run kill."""
import random

from torture import kill


def test_nothing_acknowledged_is_lost_or_counted_twice_over_25_kills(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(kill.run(make_cluster, print, seed, cycles=25))
