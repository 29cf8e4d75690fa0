"""Short form of tests/torture/run several: two ingestd, exporters of everything, and shards."""
import random

from torture import several


def test_several_ingestd_and_exporters_show_the_union_and_shards_divide_it(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(several.run(make_cluster, print, seed))
