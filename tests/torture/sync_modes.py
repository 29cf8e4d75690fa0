"""Every sync mode of the journal survives kill -9 with everything that was acknowledged."""
from torture import kill

MODES = ("always", "interval:50", "never")


def run(make_cluster, say, seed, cycles=4):
    result = {}
    for mode in MODES:
        done = kill.run(make_cluster, say, seed, cycles, ingestd_options=("--journal-sync", mode), with_http=False)
        say(f"  {mode}: {cycles} kills, {done['batches']} batches, longest answer {done['longest_ack_s']} s")
        result[mode] = done["batches"]
    return {"cycles_each": cycles, **result}
