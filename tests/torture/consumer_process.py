"""A consumer of ingestd's journal as a program of its own, so that it can be killed: every sample goes into an SQLite
database in one transaction with the position behind it, so that none is missed and none is there twice.

Usage: consumer_process.py PROTOBUF_FOLDER URL DATABASE NAME LEASE_MS   (CLUSTER_TOKEN in the environment)
"""
import os
import random
import sqlite3
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0]), str(HERE.parents[0] / "e2e")]

import sp  # noqa: E402
from harness import import_protobuf  # noqa: E402

BUS = "/tobogganing.v1.Bus/"
SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (row INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, time_ms INTEGER, value INTEGER);
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER, offset INTEGER);
INSERT OR IGNORE INTO place VALUES (1, 0, 0);
"""


def open_database(path):
    database = sqlite3.connect(path, isolation_level=None, timeout=60)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    return database


def undo_deltas(column):
    total, values = 0, []
    for delta in column:
        total += delta
        values.append(total)
    return values


def samples_of(pb, page):
    """(source, time, bytes_sent) of every sample in a page of records, in their order."""
    for entry in page.records:
        record = pb.journal.Record.FromString(entry.record)
        batch = pb.ingest.Batch.FromString(record.batch)
        for series in batch.clients:
            times, values = undo_deltas(series.time_unix_ms), undo_deltas(series.bytes_sent)
            yield from zip([series.client_id] * len(times), times, values)


class Consumer:
    def __init__(self, pb, url, database, name, lease_ms, token):
        self.pb, self.url, self.name, self.lease_ms = pb, url, name, lease_ms
        self.holder = random.getrandbits(64) | 1
        self.rpc = sp.Rpc(url, pb, bearer=token, timeout=20)
        self.instance = self.rpc.call("/tobogganing.v1.Health/Check", pb.health.HealthCheckRequest(),
                                      pb.health.HealthCheckResponse).instance
        self.database = open_database(database)

    def place(self):
        row = self.database.execute("SELECT segment, offset FROM place").fetchone()
        return self.pb.ingest.Position(segment=row[0], offset=row[1]) if row[0] else None

    def commit(self, position):
        request = self.pb.bus.CommitRequest(instance=self.instance, consumer=self.name, holder=self.holder,
                                            lease_ms=self.lease_ms, position=position)
        return self.rpc.call(BUS + "Commit", request, self.pb.bus.CommitResponse)

    def store(self, page, start):
        """The page's samples and the place behind them, unless somebody else has moved the place meanwhile."""
        samples = list(samples_of(self.pb, page))
        self.database.execute("BEGIN IMMEDIATE")
        place = self.place()
        if (place or self.pb.ingest.Position()) != (start or self.pb.ingest.Position()):
            self.database.execute("ROLLBACK")
            return False
        self.database.executemany("INSERT INTO samples (source, time_ms, value) VALUES (?, ?, ?)", samples)
        self.database.execute("UPDATE place SET segment = ?, offset = ?", (page.next.segment, page.next.offset))
        self.database.execute("COMMIT")
        return True

    def step(self):
        # What the database has counts; ingestd's copy lags behind it, never before it.
        start = self.place()
        committed = self.commit(start)
        if start is None:  # a new consumer begins where ingestd says
            start_at = committed.position
        else:
            start_at = start
        request = self.pb.bus.ReplayRequest(instance=self.instance, view=self.pb.bus.REPLAY_VIEW_RECORDS, max_bytes=1 << 17,
                                            wait_ms=500)
        getattr(request, "from").CopyFrom(start_at)
        page = self.rpc.call(BUS + "Replay", request, self.pb.bus.ReplayResponse)
        return self.store(page, start)


def main():
    folder, url, database, name, lease_ms = sys.argv[1:]
    pb = import_protobuf(folder)
    while True:
        try:
            consumer = Consumer(pb, url, database, name, int(lease_ms), os.environ["CLUSTER_TOKEN"])
            print("connected", flush=True)
            while True:
                consumer.step()
        except (sp.Closed, OSError) as error:
            print(f"away: {error!r}", flush=True)
            time.sleep(0.02)  # the pace of the attempts to connect
        except sp.RpcError as error:
            # Another one has the lease, or ingestd is on its way down.
            print(f"refused: {error}", flush=True)
            if error.code not in ("ABORTED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
                return 1
            time.sleep(min(error.response.retry_after_ms / 1000, 0.2) or 0.02)


if __name__ == "__main__":
    sys.exit(main())
