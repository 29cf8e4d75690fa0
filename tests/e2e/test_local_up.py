"""deploy/local/up as a newcomer runs it, in a copy of the tree, and the README's examples beside it."""
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests

from exposition import Exposition
from harness import DEADLINE, ROOT, binary, clean_environment, free_port, wait_until

BUILD_DEADLINE = 600
VARIABLES = ["MANAGER_URL", "INGEST_URL", "CLIENT_ID", "API_KEY", "HEADEND_ID", "HEADEND_TOKEN", "METRICS_TOKEN", "ADMIN_TOKEN"]


def copy_tree(to):
    """What a clone of the working tree would hold."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, check=False)
    if listed.returncode == 0:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to / name)
    else:  # a tarball
        shutil.copytree(ROOT, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("build", "var", "__pycache__"))


class Tree:
    """A copy of the repository and what runs in it."""

    def __init__(self, root):
        self.root = root
        self.ports = {name: free_port() for name in ("GATEWAY_PORT", "EXPORTER_PORT", "INGEST_PORT", "BUS_PORT")}

    def env(self, **more):
        return clean_environment(**{name: str(port) for name, port in self.ports.items()}, **more)

    def run(self, *arguments, **more):
        return subprocess.run([str(self.root / "deploy/local/up"), *arguments], env=self.env(**more), capture_output=True,
                              text=True, timeout=BUILD_DEADLINE, stdin=subprocess.DEVNULL, cwd="/", check=False)

    def demo_env(self):
        """The variables as a shell sees them."""
        script = ". var/demo.env; " + " ".join(f'printf "%s\\n" "${name}";' for name in VARIABLES)
        done = subprocess.run(["sh", "-euc", script], cwd=self.root, env=clean_environment(), capture_output=True, text=True,
                              timeout=60, check=True)
        return dict(zip(VARIABLES, done.stdout.split("\n")))

    def scrape(self):
        env = self.demo_env()
        response = requests.get(env["MANAGER_URL"] + "/metrics", timeout=60,
                                headers={"Authorization": "Bearer " + env["METRICS_TOKEN"]})
        assert response.status_code == 200, response.text
        response.encoding = "utf-8"
        return Exposition(response.text)

    def processes(self):
        """Pids of everything whose program or command line is in this tree."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if str(self.root) in command:
                    found[int(entry.name)] = command
        return found


class Up:
    """A running deploy/local/up."""

    def __init__(self, tree, *arguments):
        self.tree = tree
        self.out_path = tree.root / "up.out"
        self.started = time.monotonic()
        with open(self.out_path, "wb") as out:
            # A new session, as a terminal gives it; signals go to the script's process group as Ctrl-C does.
            self.process = subprocess.Popen([str(tree.root / "deploy/local/up"), *arguments], env=tree.env(), stdout=out,
                                            stderr=out, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True)

    def out(self):
        return self.out_path.read_text(errors="replace")

    def wait_running(self):
        def running():
            assert self.process.poll() is None, f"up ended with {self.process.returncode}:\n{self.out()}"
            return "Ctrl-C stops everything" in self.out()
        wait_until(running, "up is running", BUILD_DEADLINE)
        self.seconds = time.monotonic() - self.started
        return self

    def stop(self, number=signal.SIGINT, group=True):
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, number)
        return self.process.wait(DEADLINE)

    def __enter__(self):
        return self.wait_running()

    def __exit__(self, *_):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    made = Tree(tmp_path_factory.mktemp("clone") / "tree with space")
    made.root.mkdir()
    copy_tree(made.root)
    built = made.run("--build-only")
    assert built.returncode == 0, built.stdout + built.stderr
    return made


def readme_blocks():
    """The README's ```sh blocks: (heading, text)."""
    text = (ROOT / "README.md").read_text()
    blocks = [(match.start(), match[1]) for match in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    headings = [(match.start(), match[1]) for match in re.finditer(r"^#+ (.*)", text, re.MULTILINE)]
    return [([heading for at, heading in headings if at < start][-1], block) for start, block in blocks]


BLOCKS = readme_blocks()


@pytest.fixture(scope="module")
def running(tree):
    with Up(tree) as up:
        yield up


def test_the_first_run_registers_and_writes_its_credentials(tree, running):
    env = tree.demo_env()
    assert all(env.values()), env
    assert env["MANAGER_URL"] == f"http://127.0.0.1:{tree.ports['GATEWAY_PORT']}"
    assert env["API_KEY"].startswith("tobk_")
    assert (tree.root / "var/demo.env").stat().st_mode & 0o777 == 0o600
    for path in (tree.root / "var").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
    # No secret is in a log or on the screen.
    shown = running.out() + "".join(path.read_text(errors="replace") for path in (tree.root / "var/log").iterdir())
    for name in ("API_KEY", "HEADEND_TOKEN", "METRICS_TOKEN", "ADMIN_TOKEN"):
        assert env[name] not in shown, name


def test_the_commands_it_prints_can_be_pasted(tree, running):
    printed = running.out().split("Paste into another terminal")[1].split("\n", 1)[1].split("Ctrl-C stops")[0]
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", printed], cwd=tree.root, env=clean_environment(),
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '{"status":"metrics_received"}' in done.stdout
    assert 'tobogganing_client_bytes_sent{client_id="demo-client"' in done.stdout
    assert "serving" in done.stdout


@pytest.mark.parametrize("heading, block", BLOCKS[1:], ids=[f"{i}-{h}" for i, (h, _) in enumerate(BLOCKS)][1:])
def test_a_readme_example_works_as_it_is_written(tree, running, heading, block):
    # The README's first block is what all others need.
    script = BLOCKS[0][1] + block
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tree.root, env=clean_environment(),
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout
    if "POST" in block and "/metrics" in block:
        assert done.stdout.strip() == '{"status":"metrics_received"}'
    if "/metrics\" |" in block:
        assert "tobogganing_client_" in done.stdout


def test_the_readmes_values_are_shown(tree, running):
    env = tree.demo_env()
    wait_until(lambda: tree.scrape().value("tobogganing_client_packets_sent", client_id=env["CLIENT_ID"]) == 2000)
    wait_until(lambda: tree.scrape().series("tobogganing_headend_cpu_usage_percent", headend_id=env["HEADEND_ID"]))


def test_the_logs_are_shown_with_the_name_of_their_program(running):
    for name in ("ingestd", "exporter", "gateway"):
        wait_until(lambda n=name: re.search(rf"^{n} +\| .*event=ready", running.out(), re.MULTILINE), f"{name}'s log is shown")


def test_a_second_one_in_the_same_tree_is_one_clear_line(tree, running):
    done = tree.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "already runs" in done.stderr


def test_ctrl_c_stops_everything_and_a_second_run_keeps_the_data(tree, running):
    before, env = tree.scrape(), tree.demo_env()
    pids = tree.processes()
    assert len(pids) >= 4, pids
    assert running.stop() == 0, running.out()
    assert tree.processes() == {}
    assert running.out().count("event=stopped") >= 3  # their last lines are shown too
    with Up(tree) as again:
        assert again.seconds < 10, again.seconds  # a second or so on an idle machine
        later, scrape = tree.demo_env(), tree.scrape()
        for name in set(VARIABLES) - {"HEADEND_TOKEN"}:
            assert later[name] == env[name], name
        family = "tobogganing_client_packets_sent"
        assert scrape.series(family) == before.series(family) and before.series(family)
        assert len((tree.root / "var/demo/client").read_text().splitlines()) == 1
        assert again.stop(signal.SIGTERM, group=False) == 0
    assert tree.processes() == {}


def test_a_daemon_that_dies_ends_it_with_the_reason(tree):
    with Up(tree) as up:
        victim = next(pid for pid, command in tree.processes().items() if "bin/" not in command and
                      command.split("/release/")[-1].startswith("exporter/tobogganing-exporter"))
        os.kill(victim, signal.SIGKILL)
        assert up.process.wait(DEADLINE) == 1
        assert "exporter ended by itself with status 137" in up.out()
    assert tree.processes() == {}


def test_nothing_outlives_it_when_it_is_killed(tree):
    with Up(tree) as up:
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
        wait_until(lambda: not any("/build/release/" in command for command in tree.processes().values()), "all are gone")
        wait_until(lambda: not tree.processes(), "their logs' readers too")


def test_a_port_that_is_taken_is_one_clear_line(tree):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", tree.ports["GATEWAY_PORT"]))
        taken.listen()
        done = tree.run()
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert f"port {tree.ports['GATEWAY_PORT']} is taken" in done.stderr and "--gateway-port" in done.stderr
        assert tree.processes() == {}


@pytest.mark.parametrize("arguments, part", [(["--bogus"], "--bogus"), (["--gateway-port"], "--gateway-port"),
                                             (["--bus-port", "x"], "--bus-port"), (["--ingest-port", "70000"], "--ingest-port")])
def test_wrong_usage_is_2(tree, arguments, part):
    done = tree.run(*arguments)
    assert done.returncode == 2 and part in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_lists_the_options(tree):
    done = tree.run("--help")
    assert done.returncode == 0 and "--demo" in done.stdout and "GATEWAY_PORT" in done.stdout


def stand_in(folder, name, script):
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)


def test_a_package_that_cannot_be_installed_is_one_clear_line(tree, tmp_path):
    # As on a machine where one package is missing and apt knows none of that name.
    stand_in(tmp_path, "dpkg-query", 'for p; do case $p in -*|*"{"*) ;; libnng-dev) ;; *) echo "installed $p";; esac; done\n')
    stand_in(tmp_path, "apt-get", 'case $1 in update) exit 0;; esac\necho "E: Unable to locate package libnng-dev" >&2\nexit 100\n')
    stand_in(tmp_path, "sudo", 'exec "$@"\n')
    done = tree.run("--build-only", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines() == [
        "deploy/local/up: can't install the Debian package libnng-dev: E: Unable to locate package libnng-dev"]


def test_demo_shows_a_fleet_that_moves(tree):
    with Up(tree, "--demo") as up:
        def fleet(scrape):
            return [labels for labels, _ in scrape.series("tobogganing_client_bytes_sent")
                    if labels["client_id"].startswith("demo-c") and labels["client_id"] != "demo-client"]
        scrape = wait_until(lambda: (s := tree.scrape()) and len(fleet(s)) == 200 and s, "200 clients are shown")
        assert {labels["type"] for labels in fleet(scrape)} == {"native", "docker", "mobile"}
        assert {labels["headless"] for labels in fleet(scrape)} == {"true", "false"}
        headends = wait_until(lambda: (s := tree.scrape().series("tobogganing_headend_cpu_usage_percent")) and
                              len([l for l, _ in s if l["headend_id"].startswith("demo-h") and l["headend_id"] != "demo-headend"]) == 4 and s)
        regions = {labels["region"] for labels, _ in headends if labels["headend_id"] != "demo-headend"}
        assert regions == {"eu-central", "us-east"}
        values = dict((labels["client_id"], value) for labels, value in scrape.series("tobogganing_client_bytes_sent"))

        def grown():
            now = dict((labels["client_id"], value) for labels, value in tree.scrape().series("tobogganing_client_bytes_sent"))
            return sum(float(now[name]) > float(values[name]) for name in values) > 100
        wait_until(grown, "most counters have grown")
        assert "bad_line" not in up.out() and "series_rejected" not in up.out()
        assert up.stop() == 0, up.out()[-2000:]
    assert tree.processes() == {}


def test_scripts_are_executable_and_parse():
    for name in ("deploy/local/up", "deploy/local/demo-fleet", "tests/run", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
        done = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_the_readme_lists_options_that_exist():
    text = (ROOT / "README.md").read_text()
    table = text.split("## Configuration", 1)[1].split("\n## ", 1)[0]
    program, helps = None, {}
    for row in re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \| .*\|$", table, re.MULTILINE):
        program = row[0].strip() or program
        if program in ("program", "---") or not row[1].startswith("`--"):
            continue
        commands = {"tobogganctl": [["tobogganctl", "client", "list"]], "agent": [["tobogganing-agent", "client"],
                    ["tobogganing-agent", "headend"]]}.get(program, [[f"tobogganing-{program}"]])
        for command in commands:
            key = shlex.join(command)
            if key not in helps:
                helps[key] = subprocess.run([binary(command[0]), *command[1:], "--help"], capture_output=True, text=True,
                                            timeout=60, env=clean_environment(), check=True).stdout
        known = "\n".join(helps[shlex.join(command)] for command in commands)
        for name in re.findall(r"--[a-z-]+|[A-Z][A-Z_]{3,}", row[1].split(" ")[0] + " " + row[2]):
            assert re.search(rf"(^|[\s]){re.escape(name)}([\s=]|$)", known, re.MULTILINE), f"{program} has no {name}"
    assert len(helps) == 6
