"""Debian's Prometheus, run in a folder of its own."""
import signal
import subprocess

import requests

from harness import DEADLINE, free_port, wait_until


class Prometheus:
    def __init__(self, folder, config, files=None):
        """config: the text of prometheus.yml;  files: more files beside it, by name."""
        self.folder = folder
        (folder / "prometheus.yml").write_text(config)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def __enter__(self):
        check = subprocess.run(["promtool", "check", "config", str(self.folder / "prometheus.yml")],
                               capture_output=True, text=True, timeout=60, check=False)
        assert check.returncode == 0, check.stderr
        with open(self.folder / "prometheus.log", "w") as log:
            # A long look-back, so that an expression can be asked for a moment in the future, when a source has
            # been silent for long.
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder / 'prometheus.yml'}",
                 f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
                 "--query.lookback-delta=1h"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._ready, "Prometheus is ready")
        return self

    def _ready(self):
        assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()[-2000:]
        try:
            return requests.get(self.url + "/-/ready", timeout=10).ok
        except requests.RequestException:
            return False

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path, **parameters):
        response = requests.get(self.url + path, params=parameters, timeout=60)
        body = response.json()
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression, at=None):
        """[(labels, value)] of an instant query."""
        parameters = {"query": expression} if at is None else {"query": expression, "time": at}
        return [(series["metric"], float(series["value"][1])) for series in self.get("/api/v1/query", **parameters)["result"]]

    def samples(self, selector, at):
        """{labels as a frozenset: [(time, value)]} of a range selector such as name[5m]."""
        result = self.get("/api/v1/query", query=selector, time=at)["result"]
        return {frozenset(series["metric"].items()): [(float(t), float(v)) for t, v in series["values"]] for series in result}
