"""Short form of tests/torture/run clocks."""
import random
from pathlib import Path

import pytest

from harness import sanitized
from torture import clocks


@pytest.mark.skipif(sanitized(), reason="a sanitizer's runtime has to be loaded before every other library")
def test_a_wall_clock_that_is_stepped_by_days_stops_nothing_and_loses_nothing(make_cluster):
    assert Path(clocks.LIBRARY).exists(), "libfaketime is missing: install the package faketime"
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(clocks.run(make_cluster, print, seed))
