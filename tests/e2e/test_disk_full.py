"""A full disk: nothing is acknowledged, reading goes on, and it recovers by itself when there is room."""
import requests

from harness import DEADLINE, wait_until


def fill(folder):
    with open(folder / "ballast", "wb", buffering=0) as ballast:  # nothing is left for close to write
        while True:
            try:
                ballast.write(b"x" * 65536)
            except OSError:
                return


def test_a_full_disk_acknowledges_nothing_and_recovers(make_cluster, small_disk):
    cluster = make_cluster(start=False, ingestd_options=["--journal-segment-bytes", "1MiB"])
    cluster.use_state_dir(small_disk / "state")
    cluster.start()
    key = cluster.add_client("c1")
    acked = 0

    def submit(value):
        return cluster.post_client("c1", key, {"metrics": {"bytes_sent": value}})

    assert submit(1).status_code == 200
    cluster.wait_value("tobogganing_client_bytes_sent", 1, client_id="c1")
    fill(small_disk)
    for value in range(2, 50000):  # what the present segment has room for is still taken
        answer = submit(value)
        if answer.status_code != 200:
            break
        acked = value
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1, answer.text
    assert "journal" in answer.json()["error"]
    cluster.wait_value("tobogganing_client_bytes_sent", acked, client_id="c1")  # reading goes on
    assert cluster.ctl("health").returncode == 1
    wait_until(lambda: requests.get(cluster.manager_url + "/readyz", timeout=DEADLINE).status_code == 503,
               "the gateway says that it is not ready")

    (small_disk / "ballast").unlink()
    wait_until(lambda: submit(acked + 1000).status_code == 200, "reports are taken again")
    wait_until(lambda: cluster.ctl("health").returncode == 0, "ingestd is well again")
    cluster.ingestd.kill()
    cluster.ingestd.start()
    cluster.wait_value("tobogganing_client_bytes_sent", acked + 1000, client_id="c1")
