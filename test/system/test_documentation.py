"""Every code block of README and docs: Python is executed, `hdmap` is run on a small world or its arguments are parsed.

Runs are in a folder that looks like a checkout after the README's first steps. A block that needs what is not here says
so in a comment in front of it, `<!-- skip: needs nuScenes -->`, and is skipped by that name.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt

from hdmap_core.cli import command_line
from hdmap_core.config import load_config
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import write_elements
from hdmap_core.inference import default_weights
from hdmap_core.viz import write_picture
from hdmap_core.viz.film_file import open_film
from training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = {"bash", "console", "sh", "shell"}
# Verbs that are run, unless an option makes it long or needs a cluster; the others' arguments are parsed.
RUN = {"bag replay", "bag write", "benchmark", "evaluate", "export", "predict", "prepare", "score", "show", "view"}
LONG = {"--corruptions", "--devices", "--grid", "--ray", "--recipe", "--workers"}
# Programs of the system: that a page names them is all that can be checked here.
SYSTEM = {"apt", "cd", "colcon", "docker", "export", "git", "mkdir", "pre-commit", "rosdep", "source", "sudo", "touch"}
OWN = {"hdmap", "make", "pip", "python", "python3", "ros2", "torchrun"}


@dataclass(frozen=True)
class Block:
    """A code block: `language` is empty where it is indented; `skip` is what it needs that is not here."""

    page: Path
    line: int
    language: str
    text: str
    skip: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command, variables put in; without comments, prompts and what is only implied (…)."""
        text = re.sub(r"\\\n\s*", " ", self.text)
        text = re.sub(r"\[(--[^\]]*)\]|\.\.\.|…", r"\1", text)
        lines = [re.sub(r"(^|\s)#.*", "", re.sub(r"^\s*\$ ", "", line)) for line in text.splitlines()]
        variables: dict[str, str] = {}
        commands = []
        for words in (shlex.split(part) for line in lines for part in re.split(r"\s(?:&&|\|)\s", line)):
            while words and (assignment := re.match(r"(\w+)=(.*)", words[0])):
                variables[f"${assignment[1]}"] = assignment[2]
                words = words[1:]
            if words:
                commands.append([variables.get(word, word) for word in words])
        return commands

    @property
    def kind(self) -> str:
        """python, shell, or text: a diagram, a formula, a piece of YAML."""
        if self.language == "python":
            return "python"
        if self.language in SHELL:
            return "shell"
        first = next((line.split() for line in self.text.splitlines() if line.split("#")[0].strip()), [""])
        known = first[0] in SYSTEM | OWN or first[0].startswith((".venv/", "scripts/")) or "=" in first[0]
        return "shell" if not self.language and known and re.match(r"[\w./]+(=\S+)?$", first[0]) else "text"


def blocks_of(page: Path) -> Iterator[Block]:
    skip = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = re.match(r"<!--\s*skip:\s*(.*?)\s*-->\s*$", token.content, re.DOTALL)
            skip = comment[1] if comment else ""
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.split(" ")[0] if token.info else "", token.content, skip)
            skip = ""
        elif token.content:
            skip = ""


seen: set[tuple[str, ...]] = set()  # what has been run; the same verb with the same options is parsed elsewhere
BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.kind != "text"]


def of_kind(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == kind], ids=lambda block: block.name)


@pytest.fixture(scope="module")
def checkout(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: recipes, weights, the world under each of its names, a bag, runs, results."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("config", "hdmap_core"):
        (folder / name).symlink_to(ROOT / name)
    world = Path(shutil.copytree(tiny_world, folder / "data" / "synth"))
    for name in ("nuscenes", "tiny"):
        (folder / "data" / name).symlink_to(world)
    for run in ("student", "other", "mine", "tiny"):
        (folder / "runs" / run / "checkpoints").mkdir(parents=True)
        (folder / "runs" / run / "checkpoints" / "best.safetensors").symlink_to(default_weights())
    dataset = NuScenesDataset(world)
    truth = {token: dataset.elements(token) for token in dataset.tokens}
    (folder / "out" / "demo").mkdir(parents=True)
    (folder / "out" / "demo" / "world").symlink_to(world)
    for place in (folder, folder / "out"):
        write_elements(place / "gt.jsonl", truth)
        write_elements(place / "predictions.jsonl", truth)
    _own_pictures(folder, dataset)
    return folder


def _own_pictures(folder: Path, dataset: NuScenesDataset) -> None:
    """What docs/predict.md calls the reader's own: a rig file, images, a folder of them, videos, a bag's place."""
    observation = dataset[0]
    entry = {"image_size": [90, 160], "intrinsics": [126, 126, 79.5, 44.5], "translation": [1.7, 0, 1.5]}
    angles = {"front": [0, 0, 0], "left": [55, 0, 0]}
    cameras = {name: entry | {"yaw_pitch_roll_deg": value} for name, value in angles.items()}
    (folder / "rig.yaml").write_text(json.dumps({"cameras": cameras}))
    for name, place in (("front", 0), ("left", 2)):
        image = observation.images[place]
        assert image is not None
        write_picture(folder / f"{name}.jpg", image)
        write_picture(folder / "images" / name / "0.jpg", image)
        with open_film(folder / f"{name}.mp4") as film:
            film.add(image, 0)
            film.add(image, 100_000_000)


@pytest.fixture(scope="module")
def namespaces() -> dict[Path, dict[str, Any]]:
    """What the Python blocks of a page have defined: a later one may use it."""
    return {}


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    exec(code, namespace)


@of_kind("python")
def test_python(block: Block, checkout: Path, namespaces: dict[Path, dict[str, Any]], monkeypatch: Any) -> None:
    if block.skip:
        pytest.skip(block.skip)
    monkeypatch.chdir(checkout)
    namespace = namespaces.setdefault(block.page, {"__name__": "documentation"})
    for earlier in (b for b in BLOCKS if b.page == block.page and b.kind == "python" and b.line <= block.line):
        if not earlier.skip and earlier.line not in namespace.setdefault("lines run", set()):
            namespace["lines run"].add(earlier.line)
            run_python(earlier, namespace)


@of_kind("shell")
def test_shell(
    block: Block, checkout: Path, scene: str, hdmap: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    if block.skip:
        pytest.skip(block.skip)
    monkeypatch.chdir(checkout)
    for words in block.commands:
        check_command(words, scene, hdmap, tmp_path)


def check_command(words: list[str], scene: str, hdmap: Callable[..., Any], tmp_path: Path) -> None:
    """Runs a command or checks that what it names is there."""
    program, told = words[0], " ".join(words)
    if program == "torchrun":
        words = words[words.index("--no-python") + 1 :]
        program = words[0]
    if program in ("hdmap", ".venv/bin/hdmap"):
        run_or_parse(words[1:], scene, hdmap, tmp_path)
    elif program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= targets, told
    elif program in ("python", "python3", ".venv/bin/python"):
        script = words[2] if words[1] == "-m" else words[1]
        assert find_spec(script) is not None if words[1] == "-m" else (ROOT / script).is_file(), told
    elif program == "ros2":
        check_ros2(words[1:])
    elif program.startswith(("scripts/", "examples/", "benchmarks/")):
        assert os.access(ROOT / program, os.X_OK), told
    else:
        assert program in SYSTEM | OWN or program.startswith(".venv/bin/"), f"{told}: what is {program}?"


def check_ros2(words: list[str]) -> None:
    """The launch file and its arguments, the executable; the rest is ROS's own."""
    if words[:2] == ["launch", "hdmap_ros"]:
        launch = (ROOT / "launch" / words[2]).read_text(encoding="utf-8")
        if words[2] != "online_map.launch.py":
            launch += (ROOT / "launch" / "online_map.launch.py").read_text(encoding="utf-8")
        for argument in words[3:]:
            assert argument.startswith("--") or f'"{argument.split(":=")[0]}"' in launch, argument
    elif words[:2] == ["run", "hdmap_ros"]:
        assert (ROOT / "scripts" / words[2]).is_file(), words


def run_or_parse(words: list[str], scene: str, hdmap: Callable[..., Any], tmp_path: Path) -> None:
    words = [re.sub(r"^/data/nuscenes|^DATAROOT", "data/nuscenes", word) for word in words]
    words = [scene if re.fullmatch(r"scene-\d{4}", word) else word for word in words]
    words = ["val" if before == "--split" else word for before, word in zip(["", *words], words, strict=False)]
    verb = " ".join(words[: 2 if words[0] == "bag" else 1])
    parse(words)
    options = (verb, *sorted(word for word in words if word.startswith("-")))
    if verb not in RUN or LONG & set(words) or options in seen:
        return
    seen.add(options)
    bag = next((word for word in words[2:3] if verb in ("bag replay", "predict") and word.endswith(".mcap")), None)
    if bag is not None and not Path(bag).exists():
        assert hdmap("bag", "write", "data/synth", "--scene", scene, "-o", bag, "--no-lidar").code == 0
    if verb == "view":  # into a file, as nobody looks
        if not Path(words[1]).exists() or find_spec("rerun") is None:
            return
        words = [word for word in words if word != "--web"] + ["--save", str(tmp_path / "drive.rrd")]
    if verb == "evaluate" and "-o" not in words:
        words += ["-o", str(tmp_path / "scores")]
    ended = hdmap(*words)
    assert ended.code == 0, f"hdmap {' '.join(words)}: {ended.err}"


def parse(words: list[str]) -> None:
    """Parses arguments as the verb would; a recipe is read with its overrides."""
    command: Any = typer.main.get_command(command_line())
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"hdmap {' '.join(words)}: no verb {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if {"--help", "-h", "--version"} & set(rest):
        return
    given = command.make_context(words[0], rest).params
    if words[0] in ("train", "overfit") and str(given["recipe"]).endswith(".yaml"):
        load_config(TrainConfig, Path(given["recipe"]), list(given.get("overrides") or ()))


def test_what_the_demo_says_to_type_next(checkout: Path, scene: str, hdmap: Callable[..., Any], tmp_path: Path) -> None:
    source = (ROOT / "scripts" / "demo.py").read_text(encoding="utf-8")
    lines = re.findall(r'^    \("((?:hdmap|source) [^"]*)", "', source, re.MULTILINE)
    assert len(lines) >= 3
    os.chdir(checkout)
    for line in lines:
        check_command(shlex.split(line.format(out="out/demo")), scene, hdmap, tmp_path)


def test_pages_have_blocks_and_say_what_is_skipped() -> None:
    """The parser sees what a reader sees."""
    assert len([b for b in BLOCKS if b.kind == "shell"]) > 15 and any(b.kind == "python" for b in BLOCKS)
    assert all(re.match(r"needs \S", b.skip) for b in BLOCKS if b.skip)
