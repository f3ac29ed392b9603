"""The documentation site: links between the Markdown's files, and a real, strict build with a small reference."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "hdmap_core/weights/MODEL_CARD.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
HOOK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("site_pages", {script!r})
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)
pages.packages = lambda: ["hdmap_core.fusion"]
on_config, on_files, on_page_markdown = pages.on_config, pages.on_files, pages.on_page_markdown
"""


def links_of(page: Path) -> list[str]:
    tokens = [child for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) for child in token.children or ()]
    found = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens]
    return [link for link in found if link and not re.match(r"[a-z]+:|#", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links_of(page):
        target, _, anchor = link.partition("#")
        path = page.parent / target
        assert path.exists(), link
        if anchor:
            lines = path.read_text(encoding="utf-8").splitlines()
            headings = {
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines if line[:1] == "#"
            }
            assert anchor in headings, link


@pytest.fixture(scope="module")
def site_pages(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (the extra `docs`)")
    return load_module(ROOT / "scripts" / "site_pages.py")


@pytest.mark.parametrize(
    ("here", "markdown", "wanted"),
    [
        ("README.md", "[a](docs/ros.md#topics) ![b](docs/demo.jpg)", "[a](ros.md#topics) ![b](demo.jpg)"),
        ("README.md", "[f](docs/results/), [d](docs/decisions/)", "[f](results/README.md), [d](decisions/index.md)"),
        ("docs/ros.md", "[c](../CONTRIBUTING.md)", "[c](contributing.md)"),
        ("docs/results/student.md", "[m](../../hdmap_core/weights/MODEL_CARD.md)", "[m](../model_card.md)"),
        ("docs/ros.md", "[s](../hdmap_core/geometry/se3.py)", "[s](reference/hdmap_core.geometry.md)"),
        ("docs/results/x.md", "[s](../../hdmap_core/models/layers/conv.py)", "[s](../reference/hdmap_core.models.md)"),
        ("README.md", "[LICENSE](LICENSE), [`x`](config/x.yaml)", "`LICENSE`, `x`"),
        ("docs/ros.md", "[w](https://example.org/a.md) [h](#here)", "[w](https://example.org/a.md) [h](#here)"),
    ],
)
def test_links_on_the_site(site_pages: ModuleType, here: str, markdown: str, wanted: str) -> None:
    assert site_pages.linked(markdown, here) == wanted


def test_every_module_has_its_place(site_pages: ModuleType) -> None:
    text = "".join(map(site_pages.reference, site_pages.packages()))
    for name in ("hdmap_core.elements", "hdmap_core.models.layers.conv", "hdmap_ros.bag.replay", "training.fit.loop"):
        assert text.count(f"::: {name}\n") == 1, name


def test_a_strict_build(site_pages: ModuleType, tmp_path: Path) -> None:
    """Every page of docs/, README and their like; the reference of one package, as all would take minutes."""
    (tmp_path / "hook.py").write_text(HOOK.format(script=str(ROOT / "scripts" / "site_pages.py")))
    lines = [f"INHERIT: {ROOT / 'mkdocs.yml'}", f"docs_dir: {ROOT / 'docs'}", "site_dir: site", "hooks: [hook.py]"]
    handler = f"plugins: [search, {{mkdocstrings: {{handlers: {{python: {{paths: [{ROOT}]}}}}}}}}]"
    (tmp_path / "mkdocs.yml").write_text("\n".join([*lines, handler]))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("index.html", "viewing.html", "decisions/index.html", "results/index.html", "contributing.html"):
        assert (tmp_path / "site" / name).is_file(), name
    reference = (tmp_path / "site" / "reference" / "hdmap_core.fusion.html").read_text(encoding="utf-8")
    assert 'class="doc doc-object doc-class"' in reference and "LocalMap" in reference
    assert "fonts.googleapis" not in reference, "nothing is loaded from elsewhere"
