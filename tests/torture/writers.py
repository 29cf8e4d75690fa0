"""Those who report all the time and remember what was acknowledged."""
import random
import threading
import time

import requests

import sp
import wire
from harness import DEADLINE

# Samples begin this long ago: a fast writer takes more than one a millisecond, and must not reach the future.
HISTORY_MS = 12 * 3600 * 1000
# Refusals that are to be repeated.
AGAIN = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")


class Worker:
    """Calls step() again and again until it is stopped; what step raises ends the run that stops it."""
    pace_s = 0.01

    def __init__(self, name):
        self.name, self.error = name, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name=name)

    def _run(self):
        try:
            while not self.stopping.is_set():
                self.step()
                self.stopping.wait(self.pace_s)
        except BaseException as error:
            self.error = error

    def check(self):
        """Fails at once when it failed."""
        if self.error:
            raise AssertionError(f"{self.name}: {self.error!r}") from self.error

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        """Ends what is under way, which includes its acknowledgement."""
        self.stopping.set()
        self.thread.join(2 * DEADLINE)
        assert not self.thread.is_alive(), f"{self.name} does not end"
        self.check()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class RpcWriter(Worker):
    """One sender as an agent is one: one batch under way, the same bytes again until they are answered. Each client has
    the values 1, 2, 3 … without a gap."""
    history_ms = HISTORY_MS

    def __init__(self, cluster, name, keys, samples=4, pace_s=0.01, urls=None, rng=None):
        super().__init__(name)
        self.cluster, self.keys, self.samples, self.pace_s = cluster, keys, samples, pace_s
        self.urls = list(urls or [cluster.ingest_url])
        self.rng = rng or random.Random()
        self.boot_id, self.number, self.value, self.time_ms = self.rng.getrandbits(64), 0, 0, 0
        self.acked = {}  # client id -> last value
        self.batches = self.attempts = self.repeated = self.refused = 0
        self.last_durable = (0, 0)
        self.longest_s = 0.0  # from a batch's first attempt to its answer
        self.rpc = None

    @property
    def stored_samples(self):
        return self.batches * self.samples * len(self.keys)

    def step(self):
        started = time.monotonic()
        answer = self.deliver(self.make())
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        self.take(answer)

    def take(self, answer):
        """A batch is acknowledged."""
        assert (answer.stored_series, answer.stored_samples) == (len(self.keys), len(self.keys) * self.samples), answer
        assert not answer.rejected, answer
        self.batches += 1
        self.repeated += answer.repeated
        if len(self.urls) == 1:
            durable = (answer.durable.segment, answer.durable.offset)
            assert durable >= self.last_durable, f"{durable} after {self.last_durable}"
            self.last_durable = durable
        self.acked.update((name, self.value) for name in self.keys)

    def make(self):
        """The next batch, serialized."""
        pb = self.cluster.pb.ingest
        self.number += 1
        self.time_ms = max(self.time_ms + 1, int(time.time() * 1000) - self.history_ms)
        values = range(self.value + 1, self.value + self.samples + 1)
        times = wire.deltas(range(self.time_ms, self.time_ms + self.samples))
        batch = pb.Batch(agent_id=self.name, boot_id=self.boot_id, number=self.number)
        for name in self.keys:
            batch.clients.add(client_id=name, time_unix_ms=times, bytes_sent=wire.deltas(values),
                              bytes_received=wire.deltas([value * 1000003 for value in values]))
        self.value += self.samples
        self.time_ms += self.samples - 1
        return pb.SubmitRequest(batch=batch.SerializeToString(), credentials=self.keys.values()).SerializeToString()

    def deliver(self, request):
        """The same bytes until they are answered."""
        end = time.monotonic() + DEADLINE
        while True:
            assert time.monotonic() < end, f"no answer to batch {self.number} within {DEADLINE:g} s"
            self.attempts += 1
            pause_s = 0.02
            try:
                if not self.rpc:
                    self.rpc = self.cluster.rpc(url=self.rng.choice(self.urls), timeout=10)
                answer = self.rpc.submit(request)
                if self.attempts % 97 == 0:  # sometimes the answer is as good as lost
                    raise sp.Closed
                return answer
            except (sp.Closed, OSError):
                self.disconnect()
            except sp.RpcError as error:
                assert error.code in AGAIN, error
                self.refused += 1
                pause_s = min(error.response.retry_after_ms / 1000, 0.2) or pause_s
            time.sleep(pause_s)  # the pace of the repeats

    def disconnect(self):
        if self.rpc:
            self.rpc.close()
            self.rpc = None

    def stop(self):
        super().stop()
        self.disconnect()


class HttpWriter(Worker):
    """One client that posts JSON, the same value until it is acknowledged."""

    def __init__(self, cluster, name, key, pace_s=0.01, urls=None, may_fail=True):
        super().__init__(f"http writer of {name}")
        self.cluster, self.client, self.key, self.pace_s, self.may_fail = cluster, name, key, pace_s, may_fail
        self.value, self.acked, self.statuses = 0, {}, {}
        self.longest_s = 0.0
        self.session = requests.Session()

    def step(self):
        self.value += 1
        started = time.monotonic()
        while self.post() != 200:
            assert time.monotonic() < started + DEADLINE, f"{self.name}: no 200 within {DEADLINE:g} s: {self.statuses}"
            time.sleep(0.02)  # the pace of the repeats
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        self.acked[self.client] = self.value

    def post(self):
        try:
            answer = self.cluster.post_client(self.client, self.key, {"metrics": {"bytes_sent": self.value}},
                                              session=self.session)
            status, text = answer.status_code, answer.text
            assert status != 503 or int(answer.headers["Retry-After"]) >= 1
        except requests.RequestException as error:
            status, text = "no connection", str(error)
            self.session.close()
            self.session = requests.Session()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert status == 200 or self.may_fail and status in (502, 503, 504, "no connection"), \
            f"{status} for a good report: {text}"
        return status

    def stop(self):
        super().stop()
        self.session.close()


def all_acked(writers):
    """{client id: last acknowledged value} of writers that are stopped."""
    return {name: value for writer in writers for name, value in writer.acked.items()}
