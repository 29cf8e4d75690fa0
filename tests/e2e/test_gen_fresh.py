"""gen/ is what protoc-c makes of proto/ today."""
import subprocess

from harness import ROOT


def test_the_generated_code_is_fresh(tmp_path):
    files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    assert files
    subprocess.run(["protoc-c", f"--proto_path={ROOT / 'proto'}", f"--c_out={tmp_path}", *files], check=True, timeout=60)
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.pb-c.[ch]")}
    committed = {path.relative_to(ROOT / "gen"): path.read_bytes() for path in (ROOT / "gen").rglob("*.pb-c.[ch]")}
    assert fresh.keys() == committed.keys()
    stale = [str(path) for path in fresh if fresh[path] != committed[path]]
    assert not stale, "regenerate with: protoc-c --proto_path=proto --c_out=gen proto/tobogganing/v1/*.proto"
