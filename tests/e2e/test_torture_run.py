"""tests/torture/run itself: what it runs by name, what it prints, and what it refuses."""
import json
import subprocess

from harness import BIN_DIR, ROOT

RUN = [ROOT / "tests" / "torture" / "run", "--no-install", "--bin-dir", BIN_DIR]


def run(*arguments):
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_a_run_prints_its_seed_and_what_it_did():
    done = run("rolling", "--cycles", "1", "--seed", "7")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["run"], result["seed"], result["restarts"], result["failed_requests"]) == ("rolling", 7, 2, 0)
    assert "nothing was lost" in done.stderr


def test_every_name_is_listed_and_another_is_refused():
    names = run("--list").stdout.split()
    assert {"kill", "bus-loss", "clocks", "syscalls", "damage", "model"} <= set(names)
    done = run("nothing")
    assert done.returncode == 2 and all(name in done.stderr for name in names) and not done.stdout


def test_a_wrong_option_is_refused():
    for wrong in (["--cycles", "0"], ["--cycles", "many"], ["--nothing"], ["kill", "--", "1"]):
        assert run(*wrong).returncode == 2, wrong
