"""The file server that shows names late does so, or what runs on it proves nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

from launch.provenance import CHECKOUT

LOOK = """
import json, os, sys
from pathlib import Path
from vssl.artifacts import create_json, read_json, write_json
root, what = Path(sys.argv[1]), sys.argv[2]
if what == "write":
    (root / "new").mkdir()
    write_json(root / "new" / "record.json", {"by": "a"})
    write_json(root / "old.json", {"by": "a"})
print(json.dumps({
    "folder": (root / "new").is_dir(),
    "record": read_json(root / "new" / "record.json"),
    "old": read_json(root / "old.json"),
    "listed": sorted(path.name for path in root.iterdir()),
    "found": sorted(path.name for path in root.glob("*.json")),
    "walked": sorted(name for _, below, names in os.walk(root) for name in (*below, *names)),
    "taken": not create_json(root / "old.json", {}),
}))
"""


def look(tmp_path: Path, node: str, what: str = "look", late_s: float = 30) -> dict[str, object]:
    (tmp_path / "notes").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{Path(__file__).parent / 'laggy'}",
        "LAGGY_ROOT": str(tmp_path / "root"),
        "LAGGY_NOTES": str(tmp_path / "notes"),
        "LAGGY_S": str(late_s),
        "SLURMD_NODENAME": node,
    }
    words = [sys.executable, "-P", "-c", LOOK, str(tmp_path / "root"), what]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd="/", check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_another_node_sees_new_names_late_and_replaced_ones_at_once(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "old.json").write_text("{}")
    seen = {
        "folder": True,
        "record": {"by": "a"},
        "old": {"by": "a"},
        "listed": ["new", "old.json"],
        "found": ["old.json"],
        "walked": ["new", "old.json", "record.json"],
        "taken": True,
    }
    assert look(tmp_path, "a", "write") == seen
    assert look(tmp_path, "a") == seen
    hidden = {"folder": False, "record": None, "listed": ["old.json"], "walked": ["old.json"]}
    assert look(tmp_path, "b") == {**seen, **hidden}
    assert look(tmp_path, "b", late_s=0) == seen
