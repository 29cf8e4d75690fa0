"""SIGHUP: every daemon reads its token files again, without a restart and without a gap."""
import secrets

import requests

from harness import DEADLINE, wait_until


def test_all_daemons_follow_rotated_tokens(make_cluster, tmp_path):
    files = {}
    for name in ("admin", "cluster", "metrics"):
        files[name] = tmp_path / f"{name}-tokens"
        files[name].write_text(secrets.token_hex(16) + "\n")
    cluster = make_cluster(start=False)
    for daemon, names in ((cluster.ingestd, ("admin", "cluster")), (cluster.gateway, ("cluster",)),
                          (cluster.exporter, ("cluster", "metrics"))):
        for name in names:
            daemon.env.pop(f"{name.upper()}_TOKEN", None)
            daemon.env[f"{name.upper()}_TOKEN_FILE"] = str(files[name])
    cluster.start()

    old = {name: path.read_text().strip() for name, path in files.items()}
    new = {name: secrets.token_hex(16) for name in files}
    for name, path in files.items():
        path.write_text(f"# the new one comes first\n{new[name]}\n{old[name]}\n")
    for daemon in cluster.daemons:
        daemon.reload()
    for name in ("old", "new"):
        token = (old if name == "old" else new)["metrics"]
        wait_until(lambda token=token: requests.get(cluster.exporter_url + "/metrics", timeout=DEADLINE,
                                                    headers={"Authorization": f"Bearer {token}"}).status_code == 200,
                   f"the {name} metrics token is accepted")
    for path, name in ((files[name], name) for name in files):
        path.write_text(new[name] + "\n")
    for daemon in cluster.daemons:
        daemon.reload()

    def refused():
        return requests.get(cluster.exporter_url + "/metrics", timeout=DEADLINE,
                            headers={"Authorization": f"Bearer {old['metrics']}"}).status_code == 401

    wait_until(refused, "the old metrics token is refused")
    done = cluster.ctl("client", "list", env={"ADMIN_TOKEN": old["admin"]})
    assert done.returncode == 1 and "UNAUTHENTICATED" in done.stderr
    cluster.admin_token, cluster.metrics_token = new["admin"], new["metrics"]
    key = cluster.add_client("after-rotation")
    assert cluster.post_client("after-rotation", key, {"metrics": {"bytes_sent": 7}}).status_code == 200
    # What the gateway counted arrives only with the new cluster token.
    cluster.wait_value("tobogganing_manager_http_requests_total", 1, method="POST",
                       endpoint="/api/v1/clients/{client_id}/metrics", status="200")


def test_a_gateway_with_a_wrong_cluster_token_says_so(make_cluster):
    cluster = make_cluster(start=False)
    cluster.gateway.env["CLUSTER_TOKEN"] = "not-the-one"
    cluster.start()
    wait_until(lambda: "event=counters_not_reported" in cluster.gateway.log(), "the gateway names its token")
    assert "CLUSTER_TOKEN" in cluster.gateway.log() and "not-the-one" not in cluster.gateway.log()
    key = cluster.add_client("still-reports")
    assert cluster.post_client("still-reports", key, {"metrics": {"bytes_sent": 7}}).status_code == 200
