"""The page of a gallery: plain HTML with its own style and a few lines of script that sort; no other file but images.

Without script the frames stand in order of their rank, best first.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from hdmap_core.elements import MapClass
from hdmap_core.metrics.breakdown import Breakdown, GroupScore
from hdmap_core.metrics.breakdown_report import number
from hdmap_core.viz import COLOURS
from training.corruptions import SEVERITIES, Corruption
from training.evaluation.gallery import FrameCard
from training.evaluation.robustness import Robustness

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --accent: #8ab4ff; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem; max-width: 1500px; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 0; }
p { margin: .3rem 0; } a { color: var(--accent); } .soft { opacity: .75; }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
thead th { font-weight: 600; } th:first-child { text-align: left; }
article { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 0 0 1.2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: .8rem; }
.pictures img, .strip img { width: 100%; height: auto; display: block; border-radius: .3rem; background: var(--soft); }
.strip { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .8rem; }
figure { margin: 0; } figcaption { font-size: .9rem; }
.key { display: inline-block; width: 1.6rem; height: .35rem; border-radius: .2rem; margin: 0 .4rem .15rem 0; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .5rem 0; } code { font-size: .85em; }
button { font: inherit; padding: .3rem .9rem; margin-right: .4rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--soft); color: inherit; cursor: pointer; }
button[aria-pressed=true] { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
"""
_SCRIPT = """
const list = document.getElementById('frames'), buttons = document.querySelectorAll('button[data-sort]');
const orders = { best: (a, b) => a.dataset.rank - b.dataset.rank, worst: (a, b) => b.dataset.rank - a.dataset.rank,
  scene: (a, b) => a.dataset.scene.localeCompare(b.dataset.scene) || a.dataset.rank - b.dataset.rank };
buttons.forEach(button => button.addEventListener('click', () => {
  [...list.children].sort(orders[button.dataset.sort]).forEach(card => list.append(card));
  buttons.forEach(other => other.setAttribute('aria-pressed', other === button));
}));
"""


def gallery_page(
    title: str,
    facts: Sequence[str],
    parts: Breakdown,
    cards: Sequence[FrameCard],
    robustness: Robustness | None = None,
    strip: Mapping[Corruption, str] | None = None,
) -> str:
    """The whole page.

    Args:
        title: what was evaluated.
        facts: lines below it: split, protocol ...
        parts: the score.
        cards: the frames, best first.
        robustness: scores under corruptions.
        strip: corruption -> picture in `images/` of the same frame.
    """
    body = [
        f"<header><h1>{escape(title)}</h1>",
        *(f'<p class="soft">{escape(fact)}</p>' for fact in facts),
        "</header><main>",
        "<h2>Scores</h2>",
        f'<div class="tables">{_overall(parts)}{"".join(_groups(*item) for item in parts.groups.items())}</div>',
    ]
    if robustness is not None:
        body += ["<h2>Under corruptions</h2>", _robustness(robustness), _strip(strip or {})]
    body += [
        "<h2>Frames</h2>",
        "<p>F1 of the frame over all classes, mean over the thresholds; rank 1 is the best frame.</p>",
        _legend(),
        _buttons(),
        '<div id="frames">',
        *(_card(card) for card in cards),
        "</div></main>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(body)
        + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _overall(parts: Breakdown) -> str:
    classes = parts.overall.classes
    thresholds = list(next(iter(classes.values())).ap)
    rows = []
    for label, score in classes.items():
        counts = f"{score.num_truth:,}", f"{score.num_predictions:,}"
        rows.append((label.value, *counts, *map(number, score.ap.values()), number(score.mean_ap)))
    rows.append(("mAP", *[""] * (2 + len(thresholds)), number(parts.overall.mean_ap)))
    header = ("class", "truth", "predicted", *(f"AP@{threshold:g} m" for threshold in thresholds), "AP")
    return _table("by class and threshold", header, rows)


def _groups(kind: str, groups: Sequence[GroupScore]) -> str:
    classes = list(groups[0].ap) if groups else []
    rows = (
        (group.name, f"{group.num_frames:,}", *(number(group.ap[label]) for label in classes), number(group.mean_ap))
        for group in groups
    )
    return _table(f"by {kind}", (kind, "frames", *(label.value for label in classes), "mAP"), rows)


def _robustness(result: Robustness) -> str:
    rows = []
    for kind, scores in result.by_kind.items():
        rates = result.resilience_rate(kind), result.corruption_error(kind)
        rows.append((kind.replace("_", " "), *map(number, (*scores, *rates))))
    means = result.mean_resilience_rate, result.mean_corruption_error
    rows.append(("mean", *[""] * len(SEVERITIES), *map(number, means)))
    caption = f"mAP by severity; clean {result.clean:.3f}"
    if result.baseline_name:
        caption += f"; CE against {result.baseline_name}"
    return _table(caption, ("corruption", "1", "2", "3", "resilience rate", "corruption error"), rows)


def _strip(files: Mapping[Corruption, str]) -> str:
    figures = "".join(
        f'<figure><img loading="lazy" src="images/{escape(name)}" '
        f'alt="All cameras under {escape(corruption.name.replace("_", " "))}, severity {corruption.severity}">'
        f"<figcaption>{escape(corruption.name.replace('_', ' '))}, severity {corruption.severity}</figcaption></figure>"
        for corruption, name in files.items()
    )
    if not figures:
        return ""
    return f'<p>One frame under each; the lines are ground truth.</p><div class="strip">{figures}</div>'


def _legend() -> str:
    keys = "".join(
        f'<span><span class="key" style="background: rgb{COLOURS[label]}"></span>{label.value.replace("_", " ")}</span>'
        for label in MapClass
    )
    white = '<span><span class="key" style="background: #fff; border: 1px solid #888"></span>ground truth</span>'
    return f'<div class="legend">{keys}{white}<span class="soft">the car drives to the right; grid 10 m</span></div>'


def _buttons() -> str:
    orders = (("best", "best first", "true"), ("worst", "worst first", "false"), ("scene", "by scene", "false"))
    return (
        '<p role="group" aria-label="Order of the frames">'
        + "".join(
            f'<button type="button" data-sort="{order}" aria-pressed="{pressed}">{text}</button>'
            for order, text, pressed in orders
        )
        + "</p>"
    )


def _card(card: FrameCard) -> str:
    counts = "; ".join(
        f"{label.replace('_', ' ')} {found} predicted, {true} true" for label, (found, true) in card.counts.items()
    )
    about = escape(f"frame {card.rank} of {card.scene}")
    return (
        f'<article data-rank="{card.rank}" data-scene="{escape(card.scene)}">'
        f"<h3>rank {card.rank} · F1 {card.f1:.3f} · {escape(card.scene)}</h3>"
        f'<p class="soft">{escape(card.description)} · <code>{escape(card.token)}</code></p><p>{escape(counts)}</p>'
        '<div class="pictures">'
        f'<a href="images/{escape(card.bev)}"><img loading="lazy" src="images/{escape(card.bev)}" '
        f'alt="View from above of {about}: prediction over ground truth"></a>'
        f'<a href="images/{escape(card.cameras)}"><img loading="lazy" src="images/{escape(card.cameras)}" '
        f'alt="Camera images of {about} with the prediction"></a></div></article>'
    )
