"""The page of a gallery: plain HTML with its own style and a few lines of script; no other file but images.

Without script the frames stand in order of their rank, best first, with everything that is shown by default.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from hdmap_core.elements import MapClass
from hdmap_core.metrics.breakdown import GroupScore
from hdmap_core.metrics.breakdown_report import number
from hdmap_core.metrics.chamfer_ap import ChamferScore
from training.corruptions import SEVERITIES, Corruption
from training.evaluation.gallery import FrameCard, Layered, Run
from training.evaluation.gallery_style import SCRIPT, STYLE
from training.evaluation.overlays import LOWEST_SCORE, MIN_SCORE
from training.evaluation.pr_curves import pr_curves
from training.evaluation.robustness import Robustness


def gallery_page(
    title: str,
    facts: Sequence[str],
    runs: Sequence[Run],
    cards: Sequence[FrameCard],
    robustness: Robustness | None = None,
    strip: Mapping[Corruption, str] | None = None,
) -> str:
    """The whole page.

    Args:
        title: what was evaluated.
        facts: lines below it: split, protocol ...
        runs: what was evaluated, and perhaps another run beside it.
        cards: the frames, best first.
        robustness: scores under corruptions.
        strip: corruption -> picture in `images/` of the same frame.
    """
    body = [
        f"<header><h1>{escape(title)}</h1>",
        *(f'<p class="soft">{escape(fact)}</p>' for fact in facts),
        "</header><main>",
        "<h2>Scores</h2>",
        f'<div class="tables">{_overall(runs)}{_groups(runs)}</div>',
        "<h2>Precision and recall</h2>",
        "<p>Solid is the strictest threshold; point at a line for its AP.</p>",
        pr_curves({run.name: run.parts.overall for run in runs}),
    ]
    if robustness is not None:
        body += ["<h2>Under corruptions</h2>", _robustness(robustness), _strip(strip or {})]
    body += [
        "<h2>Frames</h2>",
        "<p>F1 of the frame over all classes, mean over the thresholds; rank 1 is the best frame. Click a picture to "
        "enlarge it, turn the wheel to come closer.</p>",
        _controls(runs),
        '<div id="frames">',
        *(_card(card, runs) for card in cards),
        "</div></main><dialog><p>wheel: closer · drag: move · Esc: back</p></dialog>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n<body>'
        + "\n".join(body)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
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


def _overall(runs: Sequence[Run]) -> str:
    return "".join(_overall_of(run.name if len(runs) > 1 else "", run.parts.overall) for run in runs)


def _overall_of(name: str, overall: ChamferScore) -> str:
    thresholds = list(next(iter(overall.classes.values())).ap)
    rows = []
    for label, score in overall.classes.items():
        counts = f"{score.num_truth:,}", f"{score.num_predictions:,}"
        rows.append((label.value, *counts, *map(number, score.ap.values()), number(score.mean_ap)))
    rows.append(("mAP", *[""] * (2 + len(thresholds)), number(overall.mean_ap)))
    header = ("class", "truth", "predicted", *(f"AP@{threshold:g} m" for threshold in thresholds), "AP")
    return _table(f"{name}, by class and threshold".removeprefix(", "), header, rows)


def _groups(runs: Sequence[Run]) -> str:
    """A table for everything that has more than one group: one alone says what the overall score says."""
    return "".join(
        _group_table(kind, groups, [run.parts.groups.get(kind, ()) for run in runs[1:]])
        for kind, groups in runs[0].parts.groups.items()
        if len(groups) > 1
    )


def _group_table(kind: str, groups: Sequence[GroupScore], others: Sequence[Sequence[GroupScore]]) -> str:
    classes = list(groups[0].ap)
    beside = [{group.name: group.mean_ap for group in other} for other in others]
    rows = (
        (
            *(group.name, f"{group.num_frames:,}", *(number(group.ap[label]) for label in classes)),
            *(number(group.mean_ap), *(number(means.get(group.name)) for means in beside)),
        )
        for group in groups
    )
    header = (kind, "frames", *(label.value for label in classes), "mAP", *["mAP of the other"] * len(beside))
    return _table(f"by {kind}", header, rows)


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


def _controls(runs: Sequence[Run]) -> str:
    known = runs[0].parts.overall.classes
    boxes = [
        (label.value, f'<span class="key {label.value}"></span>{label.value.replace("_", " ")}') for label in MapClass
    ]
    layers = [box for box in boxes if MapClass(box[0]) in known]
    layers += [("predicted", "predicted"), ("truth", "truth, white"), ("image", "images")]
    checks = "".join(
        f'<label><input type="checkbox" checked data-layer="{name}"> {text}</label>' for name, text in layers
    )
    orders = [("best", "best first"), ("worst", "worst first"), ("scene", "by scene")]
    orders += [("apart", "most different first")] if len(runs) > 1 else []
    buttons = "".join(
        f'<button type="button" class="order" data-sort="{order}" '
        f'aria-pressed="{str(order == "best").lower()}">{text}</button>'
        for order, text in orders
    )
    return (
        f'<div class="controls"><span role="group" aria-label="Order of the frames">{buttons}</span>{checks}'
        f'<label>score at least <input type="range" id="score" min="{LOWEST_SCORE}" max="0.95" step="0.01" '
        f'value="{MIN_SCORE}"><output>{MIN_SCORE:.2f}</output></label>'
        '<span class="soft">the car drives to the right; grid 10 m</span></div>'
    )


def _card(card: FrameCard, runs: Sequence[Run]) -> str:
    f1 = " · ".join(
        f"F1 {value:.3f}" + (f" {escape(run.name)}" if len(runs) > 1 else "")
        for value, run in zip(card.f1, runs, strict=True)
    )
    apart = max(card.f1) - min(card.f1)
    return (
        f'<article data-rank="{card.rank}" data-scene="{escape(card.scene)}" data-apart="{apart:.4f}">'
        f"<h3>rank {card.rank} · {f1} · {escape(card.scene)}</h3>"
        f'<p class="soft">{escape(card.description)} · <code>{escape(card.token)}</code></p><div class="runs">'
        + "".join(_side(card, index, run.name if len(runs) > 1 else "") for index, run in enumerate(runs))
        + "</div></article>"
    )


def _side(card: FrameCard, index: int, name: str) -> str:
    """What one run says of the frame. A run alone has its cameras beside the view from above."""
    counts = "; ".join(
        f"{label.replace('_', ' ')} {found} predicted, {true} true"
        for label, (found, true) in card.counts[index].items()
    )
    about = f"frame {card.rank} of {card.scene}" + (f", {name}" if name else "")
    rows = "".join(
        f'<div class="row">{"".join(_picture(picture, index, about) for picture in row)}</div>' for row in card.cameras
    )
    heading = f"<p>{escape(f'{name}: ' if name else '')}{escape(counts)}</p>"
    between = "" if name else "</div><div>"
    return f"<div>{heading}{_picture(card.bev, index, about)}{between}{rows}</div>"


def _picture(picture: Layered, index: int, about: str) -> str:
    width, height = picture.size
    return (
        f'<button type="button" class="layered"><img loading="lazy" src="images/{escape(picture.file)}" '
        f'width="{width}" height="{height}" alt="{escape(picture.shows)} of {escape(about)}">'
        f'<svg class="layers" viewBox="0 0 {width} {height}" aria-hidden="true">{picture.layers[index]}</svg></button>'
    )
