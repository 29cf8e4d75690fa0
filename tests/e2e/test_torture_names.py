"""Short form of tests/torture/run dns."""
import random

import pytest

from harness import sanitized
from torture import names


@pytest.mark.skipif(sanitized(), reason="a sanitizer's runtime has to be loaded before every other library")
def test_every_address_behind_a_name_is_dialled_and_followed_as_it_comes_and_goes(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(names.run(make_cluster, print, seed))
