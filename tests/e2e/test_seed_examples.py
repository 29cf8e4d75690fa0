"""What the users' guide shows, run as it is written there, with ids, tokens, URL and the interface's name put in."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import clean_environment, wait_until

SEED = Path(__file__).parent / "seed"


@pytest.fixture(scope="module")
def fleet(cluster):
    cluster.keys = {name: cluster.add_client(name) for name in ("curl", "script", "gopher", "body")}
    cluster.tokens = {"h1": cluster.add_headend("h1")}
    return cluster


def put_in(text, replacements):
    for theirs, ours in replacements.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    return text


def run_shell(script, folder, shell="bash", **env):
    path = folder / "script.sh"
    path.write_text(script)
    return subprocess.run([shell, str(path)], env=clean_environment(**env), capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, cwd=folder, check=False)


def test_the_curl_command_that_verifies_a_submission(fleet, tmp_path):
    script = put_in((SEED / "verify_submission.sh").read_text(), {
        "https://manager.example.com": fleet.manager_url, "test-client": "curl", "YOUR_API_KEY": fleet.keys["curl"]})
    done = run_shell(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "metrics_received"}
    assert "< HTTP/1.1 200" in done.stderr
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 1000, client_id="curl", headless="false")
    assert scrape.value("tobogganing_client_bytes_received", client_id="curl") == 2000
    assert scrape.value("tobogganing_client_connection_uptime_seconds", client_id="curl") == 60
    assert scrape.value("tobogganing_client_packets_sent", client_id="curl") is None


def test_the_curl_commands_that_check_the_metrics(fleet, tmp_path):
    fleet.wait_value("tobogganing_client_bytes_sent", 1000, client_id="curl")
    script = put_in((SEED / "check_metrics.sh").read_text(), {
        "https://manager.example.com": fleet.manager_url, "YOUR_METRICS_TOKEN": fleet.metrics_token})
    done = run_shell(script, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    line = 'tobogganing_client_bytes_sent{client_id="curl",name="curl",type="native",headless="false"} 1000'
    assert lines.count(line) == 2  # once in everything, once by grep
    assert "# TYPE tobogganing_manager_clients_total gauge" in lines


def test_the_documented_bodies(fleet):
    assert fleet.post_client("body", fleet.keys["body"], (SEED / "client_body.json").read_text()).json() == {
        "status": "metrics_received"}
    assert fleet.post_headend("h1", fleet.tokens["h1"], (SEED / "headend_body.json").read_text()).json() == {
        "status": "metrics_received"}
    fleet.wait_value("tobogganing_client_packets_received", 1500, client_id="body")
    fleet.wait_value("tobogganing_headend_cpu_usage_percent", 45.2, headend_id="h1", name="headend-us-east-1")


def interface():
    """wg0 where there is one; else the first real interface that has moved bytes, which the loopback has."""
    names = os.listdir("/sys/class/net")
    return "wg0" if "wg0" in names else "lo"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_docker_clients_script(fleet, tmp_path, shell):
    name = interface()
    script = put_in((SEED / "submit_metrics.sh").read_text(), {"/sys/class/net/wg0/": f"/sys/class/net/{name}/"})

    def counter(kind):
        return int(Path(f"/sys/class/net/{name}/statistics/{kind}").read_text())
    before = {kind: counter(kind) for kind in ("tx_bytes", "rx_bytes", "tx_packets", "rx_packets")}
    done = run_shell(script, tmp_path, shell, CLIENT_ID="script", API_KEY=fleet.keys["script"], MANAGER_URL=fleet.manager_url)
    after = {kind: counter(kind) for kind in before}
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "metrics_received"}
    uptime = float(Path("/proc/uptime").read_text().split()[0])

    def in_range(scrape, family, kind):
        value = scrape.value(family, client_id="script", headless="true")
        return value is not None and before[kind] <= value <= after[kind]

    def shows_this_run():
        now = fleet.scrape()
        return now if in_range(now, "tobogganing_client_bytes_sent", "tx_bytes") else None
    scrape = wait_until(shows_this_run, "the script's report is shown")
    assert in_range(scrape, "tobogganing_client_bytes_received", "rx_bytes")
    assert in_range(scrape, "tobogganing_client_packets_sent", "tx_packets")
    assert in_range(scrape, "tobogganing_client_packets_received", "rx_packets")
    shown = scrape.value("tobogganing_client_connection_uptime_seconds", client_id="script")
    assert uptime - 60 < shown <= uptime + 1
    assert scrape.series("tobogganing_client_bytes_sent", client_id="script")[0][0]["headless"] == "true"


GO_REST = """
func getTotalBytesSent() uint64     { return 123456789012 }
func getTotalBytesReceived() uint64 { return 2097152 }
func getTotalPacketsSent() uint64   { return 1000 }
func getTotalPacketsReceived() uint64 { return 1500 }
func getConnectionUptime() float64  { return 3600.5 }

func main() {
    if err := submitMetrics(os.Args[1], os.Args[2]); err != nil {
        fmt.Fprintln(os.Stderr, err)
        os.Exit(1)
    }
}
"""


def test_the_go_client(fleet, tmp_path):
    """The guide's function as it stands, with what it leaves out: two imports, the collectors, what to do with the
    response, and main."""
    go = shutil.which("go")
    if not go:
        pytest.skip("no Go toolchain")
    source = put_in((SEED / "client.go.txt").read_text(), {
        '    "time"\n': '    "time"\n    "fmt"\n    "os"\n',
        "https://manager.example.com": fleet.manager_url,
        "    // Handle response...\n": "    if err != nil {\n        return err\n    }\n    defer resp.Body.Close()\n"
                                       "    if resp.StatusCode != 200 {\n        return fmt.Errorf(\"%s\", resp.Status)\n"
                                       "    }\n    return nil\n"})
    (tmp_path / "main.go").write_text(source + GO_REST)
    env = clean_environment(HOME=str(tmp_path), GOCACHE=os.environ.get("GOCACHE", str(tmp_path / "cache")),
                            GO111MODULE="off", GOFLAGS="", GOTOOLCHAIN="local")
    build = subprocess.run([go, "build", "-o", "client", "main.go"], cwd=tmp_path, env=env, capture_output=True,
                           text=True, timeout=300, check=False)
    assert build.returncode == 0, build.stderr
    done = subprocess.run([str(tmp_path / "client"), "gopher", fleet.keys["gopher"]], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    scrape = fleet.wait_value("tobogganing_client_bytes_sent", 123456789012, client_id="gopher", headless="false")
    assert scrape.text_value("tobogganing_client_connection_uptime_seconds", client_id="gopher") == "3600.5"
    wrong = subprocess.run([str(tmp_path / "client"), "gopher", "tobk_wrong"], capture_output=True, text=True,
                           timeout=60, check=False)
    assert wrong.returncode == 1 and "401" in wrong.stderr
