"""Named consumers of the journal: positions, leases, what is retained; and the short form of tests/torture/run consumer."""
import random
import re
import threading
import time

import pytest

import sp
from harness import wait_until
from torture import consumer
from torture.consumer_process import samples_of

NAME = "remote-write"


@pytest.fixture(scope="module")
def bed(make_cluster):
    return consumer.Bed(make_cluster, random.Random(1))


@pytest.fixture
def bus(bed, request):
    """Every test has a consumer of its own."""
    with consumer.Bus(bed.cluster, f"{NAME}-{request.node.name}"[:128]) as connection:
        yield connection


def test_every_sample_arrives_exactly_once_and_in_order_through_kills_of_either_side(make_cluster):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(consumer.run(make_cluster, print, seed))


def test_one_holder_at_a_time_has_the_lease(bed, bus):
    position = consumer.submit_one(bed, 1)
    first = bus.commit(holder=1, lease_ms=1000)
    assert (first.end.segment, first.end.offset) > (position.segment, position.offset)
    error = bus.refused("ABORTED", bus.commit, holder=2, lease_ms=600_000)
    assert 0 < error.response.retry_after_ms <= 1000
    bus.commit(holder=1, lease_ms=1000)  # renewing is always right
    second = wait_until(lambda: try_commit(bus, holder=2, lease_ms=600_000), "the lease has ended by itself")
    assert second.position == first.position
    # The first one comes back from the dead: nothing it says counts.
    bus.refused("ABORTED", bus.commit, holder=1, position=second.end)
    bus.refused("ABORTED", bus.commit, holder=1, lease_ms=0)
    assert listed(bus).position == first.position and listed(bus).holder == 2
    assert 500_000 < listed(bus).lease_ms <= 600_000
    # Giving it up makes room at once.
    bus.commit(holder=2, lease_ms=0, position=second.end)
    assert listed(bus).holder == 0 and listed(bus).position == second.end
    assert bus.commit(holder=3).position == second.end


def try_commit(bus, **options):
    try:
        return bus.commit(**options)
    except Exception as error:
        assert getattr(error, "code", None) == "ABORTED", error
        return None


def listed(bus):
    found = [one for one in bus.consumers().consumers if one.name == bus.name]
    assert len(found) == 1
    return found[0]


def test_a_position_survives_a_kill_and_a_lease_does_not(bed, bus):
    place = consumer.submit_one(bed, 2)
    bus.commit(holder=1, lease_ms=600_000, position=place)
    bed.cluster.ingestd.kill()
    bed.cluster.ingestd.start()
    with consumer.Bus(bed.cluster, bus.name) as again:
        assert again.instance == bus.instance
        assert listed(again).position == place and listed(again).holder == 0
        assert again.commit(holder=2).position == place
        # A clean stop keeps it as well, through the checkpoint.
        bed.cluster.ingestd.stop()
        bed.cluster.ingestd.start()
    with consumer.Bus(bed.cluster, bus.name) as again:
        assert listed(again).position == place


def test_records_are_read_from_the_place_they_have(bed, bus):
    places = [consumer.submit_one(bed, value) for value in (10, 11, 12)]
    page = bus.replay(places[0])
    assert [entry.position for entry in page.records if entry.position in places] == places
    samples = list(samples_of(bus.pb, page))
    assert [value for _, _, value in samples][:3] == [10, 11, 12]
    assert bus.replay(places[2]).records[0].position == places[2]
    assert len(bus.replay(places[0], max_bytes=1).records) == 1, "at least one record, at most about max_bytes"
    assert bus.replay(page.next).next == page.next


def test_at_the_end_it_waits_for_what_comes(bed, bus):
    end = bus.commit(holder=1).end
    started = time.monotonic()
    page = bus.replay(end, wait_ms=300)  # the commit itself may be a record behind the end that it told
    while page.records:
        page = bus.replay(page.next, wait_ms=300)
    assert time.monotonic() - started >= 0.25
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(bus.replay(page.next, wait_ms=30_000)))
    waiting.start()
    place = consumer.submit_one(bed, 20)
    waiting.join(30)
    assert answers and answers[0].records[0].position == place


def test_a_reader_that_waits_holds_up_no_stop(bed, bus):
    end = bus.commit(holder=1).end
    page = bus.replay(end)
    while page.records:
        page = bus.replay(page.next)
    answers = []

    def wait_for_more():
        try:
            answers.append(bus.replay(page.next, wait_ms=60_000))
        except (sp.Closed, sp.RpcError) as error:
            answers.append(error)
    reader = threading.Thread(target=wait_for_more)
    reader.start()
    started = time.monotonic()
    bed.cluster.ingestd.stop()
    assert time.monotonic() - started < 10
    reader.join(30)
    assert answers, "nobody told the reader"
    bed.cluster.ingestd.start()


def test_what_is_wrong_is_told(bed, bus):
    end = bus.commit(holder=1).end
    beyond = bed.cluster.pb.ingest.Position(segment=end.segment + 5, offset=end.offset)
    bus.refused("OUT_OF_RANGE", bus.commit, holder=1, position=beyond)
    bus.refused("OUT_OF_RANGE", bus.replay, beyond)
    bus.refused("OUT_OF_RANGE", bus.replay, beyond, view="REPLAY_VIEW_ROWS")
    bus.refused("FAILED_PRECONDITION", bus.commit, holder=1, instance=bus.instance ^ 1)
    bus.refused("FAILED_PRECONDITION", bus.replay, end, instance=bus.instance ^ 1)
    for bad in ({"holder": 0}, {"holder": 1, "lease_ms": 999}, {"holder": 1, "lease_ms": 600_001}):
        bus.refused("INVALID_ARGUMENT", bus.commit, **bad)
    bus.refused("NOT_FOUND", bus.forget, "nobody-has-this-name")
    assert listed(bus).name == bus.name
    bus.forget()
    assert not [one for one in bus.consumers().consumers if one.name == bus.name]


def test_a_place_that_no_record_has_is_refused(bed, bus):
    place = consumer.submit_one(bed, 30)
    place.offset += 8
    error = bus.refused("OUT_OF_RANGE", bus.replay, place)
    assert error.message


def test_beyond_what_is_retained_the_oldest_place_is_named(bed, bus):
    bus.commit(holder=1)
    first = consumer.submit_one(bed, 40)
    bus.commit(holder=1, position=first)
    consumer.fill_journal(bed, 12)  # 8 MiB are retained

    def gone():
        oldest = bus.commit(holder=1).oldest
        return oldest if (oldest.segment, oldest.offset) > (first.segment, first.offset) else None
    # Old segments go when a checkpoint has replaced them: by size, as more is written.
    oldest = wait_until(lambda: gone() or consumer.fill_journal(bed, 1) and None, "old segments are removed")
    assert bus.commit(holder=1).position == first, "the consumer's position is its own"
    assert listed(bus).lag_bytes > 0
    # A segment that is being read stays readable until its reader has moved on to another: move it.
    wait_until(lambda: read_oldest(bus), "the oldest place is read before it goes too")
    error = bus.refused("OUT_OF_RANGE", bus.replay, first)
    named = re.search(r"oldest (\d+):(\d+)", error.message)
    assert named and (oldest.segment, oldest.offset) <= tuple(map(int, named.groups())), error.message
    bus.refused("OUT_OF_RANGE", bus.replay, first, view="REPLAY_VIEW_ROWS")
    # From the oldest on everything can be read, to the end, each record once.
    oldest, page = wait_until(lambda: read_oldest(bus), "the oldest place is read before it goes too")
    places = []
    while page.records:
        places += [(entry.position.segment, entry.position.offset) for entry in page.records]
        page = bus.replay(page.next)
    assert places == sorted(set(places)) and places[0] == (oldest.segment, oldest.offset)


def read_oldest(bus):
    oldest = bus.commit(holder=1).oldest
    try:
        return oldest, bus.replay(oldest)
    except sp.RpcError as error:
        assert error.code == "OUT_OF_RANGE", error
        return None
