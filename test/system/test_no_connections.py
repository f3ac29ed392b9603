"""The node needs no network of its own: only ROS's."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_core_and_node_open_no_connections_of_their_own() -> None:
    unwanted = {"socket", "socketserver", "urllib", "http", "requests", "ftplib", "smtplib", "pickle", "marshal"}
    paths = [path for package in ("hdmap_core", "hdmap_ros") for path in (ROOT / package).rglob("*.py")]
    paths.remove(ROOT / "hdmap_core" / "running" / "parallel.py")  # of `--ray`, which the node has not
    paths.remove(ROOT / "hdmap_core" / "viewer" / "showing.py")  # of `hdmap view --web`, which the node has not either
    assert len(paths) > 100
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} != {"UnpicklingError"}:
                names += [node.module or ""]  # the error of a file that is refused unpickles nothing
            assert not unwanted & {name.split(".")[0] for name in names}, path
