"""Short form of tests/torture/run rolling."""
import random

from torture import rolling


def test_a_rolling_restart_of_two_ingestd_fails_no_request(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(rolling.run(make_cluster, print, seed))
