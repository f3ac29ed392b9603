"""What mkdocs.yml hooks in: README and the other pages outside docs/, a reference page per package, links between them.

The Markdown is written for reading in the repository. On the site a link to a source file leads to its place in the
reference, and one to a file that the site does not have is its name alone.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hdmap_core", "hdmap_ros", "training")
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "hdmap_core/weights/MODEL_CARD.md": "model_card.md",
}
"""File of the repository -> page of the site."""
FIRST = (
    *("install", "python", "predict", "your_own_data", "viewing", "ros", "abnormal_input", "engines"),
    *("recipes", "training", "training-data", "distillation", "evaluation", "released_weights"),
    *("synthetic_world", "argoverse", "sd_maps", "architecture", "conventions", "status"),
)
"""Pages of docs/ in this order, the others after them by name."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages in the order in which they are read."""
    names = sorted(
        (path.stem for path in (ROOT / "docs").glob("*.md")),
        key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name),
    )
    sections = {folder: [f"{folder}/{path.name}" for path in pages(folder)] for folder in ("results", "decisions")}
    config.nav = [
        {"hdmap_ros": "index.md"},
        *({title(ROOT / "docs" / f"{name}.md"): f"{name}.md"} for name in names),
        {"Model card": "model_card.md"},
        {"Results": sections["results"]},
        {"Decisions": ["decisions/index.md", *sections["decisions"]]},
        {"Reference": [{package: f"reference/{package}.md"} for package in packages()]},
        {"Contributing": "contributing.md"},
        {"Changes": "changelog.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is not in docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    listed = "".join(f"- [{title(path)}]({path.name})\n" for path in pages("decisions"))
    files.append(File.generated(config, "decisions/index.md", content=f"# Decisions\n\n{listed}"))
    for package in packages():
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them."""
    sources = {site: source for source, site in OUTSIDE.items()}
    here = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return markdown if here.startswith("docs/reference/") else linked(markdown, here)


def linked(markdown: str, here: str) -> str:
    """The text of a file of the repository with the links that its page has."""

    def replaced(match: re.Match[str]) -> str:
        target, text = match["target"], match["text"]
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        place = site_place(posixpath.normpath(posixpath.join(posixpath.dirname(here), target)))
        if place is None:
            return text if text.startswith("`") else f"`{text}`"
        start = posixpath.dirname(site_place(here) or "")
        return f"{match['image']}[{text}]({posixpath.relpath(place, start or '.')}{match['anchor'] or ''})"

    return _LINK.sub(replaced, markdown)


def site_place(path: str) -> str | None:
    """Where the site has a file or folder of the repository; None: nowhere."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path in ("docs/results", "docs/decisions"):
        return f"{path.removeprefix('docs/')}/{'README' if path.endswith('results') else 'index'}.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    package = package_of(Path(path))
    return f"reference/{package}.md" if path.endswith(".py") and package in packages() else None


def pages(folder: str) -> list[Path]:
    return sorted((ROOT / "docs" / folder).glob("*.md"), key=lambda path: (path.name != "README.md", path.name))


def title(path: Path) -> str:
    """The first heading."""
    return next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))[2:]


def packages() -> list[str]:
    """The packages and the packages in them, each a page."""
    return list(dict.fromkeys(package_of(path) for path in modules()))


def modules() -> list[Path]:
    """Every module that has something to say, from the root of the repository."""
    found = (path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [path for path in found if path.name != "__main__.py" and (path.name != "__init__.py" or _defines(path))]


def _defines(path: Path) -> bool:
    return bool(re.search(r"^(class|def [a-z])", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def package_of(path: Path) -> str:
    """`hdmap_core.geometry` of `hdmap_core/geometry/se3.py`; no deeper than two names."""
    return ".".join(path.parts[:-1][:2])


def reference(package: str) -> str:
    """The Markdown of a package's page."""
    paths = [path.with_suffix("") for path in modules() if package_of(path) == package]
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return f"# {package}\n\n" + "".join(f"::: {name}\n\n" for name in names)
