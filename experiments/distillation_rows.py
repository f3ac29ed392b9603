"""What the experiment of MapKD is made of: what teaches, the rows of the table, and what each run of them needs first.

`distillation.py` runs it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mapkd_rows import ALONE, BACKBONE, PILLARS, REFINER, SD, SIMULATED

from training.fit.run_folder import metrics_of

Terms = list[dict[str, object]]


def steps(number: int) -> list[str]:
    """A run of so many steps, in half precision where that does no harm, saved now and then, validated at its end."""
    schedule = [f"optim.steps={number}", "save_every=100", f"evaluate_every={number}", "evaluate_frames=120"]
    return [*schedule, "optim.precision=bf16-mixed", "data.workers=1"]


SIMULATED_LIDAR = SIMULATED.format(BACKBONE)
KEPT = "data.keep_sources=true"
STUDENT = steps(300)
TRIAL = steps(120)
"""Of the runs by which the factors are chosen."""
TRIAL_SEED = 7
FACTORS = (0.1, 0.3, 1.0)
TEST_FRAMES = 240

SOURCES: dict[str, tuple[list[str], str | None, Terms]] = {
    "refiner": ([*ALONE, *steps(1000)], None, []),
    "first teacher": ([*PILLARS, *SD, *steps(700)], None, []),
    "teacher": ([*PILLARS, *SD, REFINER, *steps(150), "optim.lr=1.0e-3"], "first teacher", []),
    "first coach": ([SIMULATED_LIDAR, *SD, *steps(350)], None, []),
    "coach": (
        [SIMULATED_LIDAR, *SD, REFINER, *steps(100), "optim.lr=1.0e-3"],
        "first coach",
        [
            {"kind": "tgpd", "source": "teacher", "taps": ["encoder_in", "bev"], "weight": 0.8},
            {"kind": "msrd", "source": "teacher", "mask": "soft", "weight": 0.8},
        ],
    ),
}
"""What teaches -> deviations, the run it goes on from, what the teacher teaches it. There is one of each, of seed 0."""


def published(source: str, features: float, response: float) -> Terms:
    """MapKD's terms as its code computes them."""
    return [
        {"kind": "tgpd_published", "source": source, "taps": ["bev"], "projected": False, "weight": features},
        {"kind": "msrd", "source": source, "weight": response},
    ]


def meant(source: str, features: float, response: float) -> Terms:
    """MapKD's terms as they are meant."""
    return [
        {"kind": "tgpd", "source": source, "taps": ["encoder_in", "bev"], "weight": features},
        {"kind": "msrd", "source": source, "mask": "soft", "weight": response},
    ]


ROWS: dict[str, tuple[list[str], Terms]] = {
    "none": ([], []),
    "BEVDistill": ([], [{"kind": "bevdistill", "source": "teacher", "weight": 1.0}]),
    "UniDistill": ([], [{"kind": "unidistill", "source": "teacher", "weight": 1.0}]),
    "MapDistill": ([SIMULATED_LIDAR], [{"kind": "mapdistill", "source": "teacher", "weight": 1.0}]),
    "MapKD published, no coach": ([], published("teacher", 0.5, 0.75)),
    "MapKD published": ([], published("teacher", 0.5, 0.75) + published("coach", 0.01, 0.01)),
    "MapKD meant, no coach": ([], meant("teacher", 0.5, 0.75)),
    "MapKD meant": ([], meant("teacher", 0.5, 0.75) + meant("coach", 0.25, 0.25)),
}
"""Row -> what its student has beside the others', and its terms at factor 1."""


def changed_tgpd(**options: object) -> Terms:
    """The terms of `MapKD meant` with other options of TGPD."""
    return [{**term, **(options if term["kind"] == "tgpd" else {})} for term in ROWS["MapKD meant"][1]]


ABLATIONS: dict[str, tuple[list[str], Terms]] = {
    f"MapKD meant, {what}": ([], terms)
    for what, terms in {
        "no TGPD": [term for term in ROWS["MapKD meant"][1] if term["kind"] != "tgpd"],
        "no MSRD": [term for term in ROWS["MapKD meant"][1] if term["kind"] != "msrd"],
        "all patches": changed_tgpd(keep=1.0),
        "tap bev alone": changed_tgpd(taps=["bev"]),
        "tap encoder_in alone": changed_tgpd(taps=["encoder_in"]),
        "tap bev alone, no MSRD": [term for term in changed_tgpd(taps=["bev"]) if term["kind"] == "tgpd"],
        "three times the weights": [
            {**term, "weight": 3 * float(str(term["weight"]))} for term in ROWS["MapKD meant"][1]
        ],
    }.items()
}
"""Of `MapKD meant` with one part taken away or changed; not among the rows unless asked for."""

TRIED = [row for row in ROWS if row not in ("none", "MapKD published", "MapKD meant")]
"""Rows that have trials; the others take the factor of the same row without coach."""


def write(terms: Terms, factor: float) -> list[str]:
    """Terms as deviations of a recipe."""
    scaled = [{**term, "weight": float(str(term["weight"])) * factor} for term in terms]
    return ["objective=distillation", f"distillation={json.dumps(scaled)}", KEPT] if terms else []


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        name: of its folder, without the seed.
        deviations: from the recipe, but for the terms.
        terms: what it is taught, at factor 1.
        takes: field of the recipe -> the source it names.
        factor: on the terms.
        trials: of whose factors it takes the best instead.
        frames: how many test keyframes it is scored on; 0: it is looked at on val only.
    """

    name: str
    seed: int
    deviations: list[str]
    terms: Terms
    takes: dict[str, str]
    factor: float = 1.0
    trials: "tuple[Job, ...]" = ()
    frames: int = 0

    @property
    def needs(self) -> "list[Job]":
        """What must have been trained before it."""
        return [*(source(name) for name in self.takes.values()), *self.trials]

    def folder(self, out: Path) -> Path:
        """Where it lands."""
        return out / f"{self.name}-{self.seed}"

    def recipe(self, out: Path) -> list[str]:
        """All of its deviations; its trials must be done."""
        taken = [f"{field}={source(name).folder(out)}" for field, name in self.takes.items()]
        return [*self.deviations, *taken, *write(self.terms, best(self.trials, out) if self.trials else self.factor)]

    def val(self, out: Path) -> dict[str, float] | None:
        """Its scores on val, where it looks after its last step; None before."""
        return next((record for record in metrics_of(self.folder(out)) if record["phase"] == "val"), None)

    def test(self, out: Path) -> dict[str, float] | None:
        """Its scores on the test towns, or None."""
        result = self.folder(out) / "test.json"
        return json.loads(result.read_text()) if result.is_file() else None

    def is_done(self, out: Path) -> bool:
        """Trained to the end, and scored if it is to be."""
        return (self.test(out) if self.frames else self.val(out)) is not None


def source(name: str) -> Job:
    """The run of something that teaches."""
    deviations, first, terms = SOURCES[name]
    takes = {} if first is None else {"start.model": first}
    if REFINER in deviations and first is not None:
        takes["start.hd_refiner"] = "refiner"
    # another seed, or the second stage would see the first one's keyframes again in the same order
    deviations = [*deviations, *(["seed=100"] if first else [])]
    frames = TEST_FRAMES if name in ("teacher", "coach") else 0
    return Job(name, 0, deviations, terms, takes | _sources(terms), frames=frames)


def student(row: str, seed: int) -> Job:
    """The run of a row."""
    beside, terms = (ROWS | ABLATIONS)[row]
    tried = next((other for other in TRIED if row.partition(",")[0] == other.partition(",")[0]), None)
    trials = tuple(trial(tried, factor) for factor in FACTORS) if tried else ()
    return Job(row, seed, [*beside, *STUDENT], terms, _sources(terms), trials=trials, frames=TEST_FRAMES)


def trial(row: str, factor: float) -> Job:
    """A short run that says on val what a factor is worth."""
    beside, terms = ROWS[row]
    return Job(f"trial {row} x{factor:g}", TRIAL_SEED, [*beside, *TRIAL], terms, _sources(terms), factor)


def best(trials: Sequence[Job], out: Path) -> float:
    """The factor with the highest mIoU + mAP on val, of trials that are all done."""
    found = {job.factor: scores["mIoU"] + scores["mAP"] for job in trials if (scores := job.val(out))}
    assert len(found) == len(trials)
    return max(found, key=lambda factor: found[factor])


def _sources(terms: Terms) -> dict[str, str]:
    return {f"sources.{term['source']}": str(term["source"]) for term in terms}


def with_needs(jobs: Sequence[Job]) -> list[Job]:
    """These and all that they need, what is needed first."""
    ordered: dict[Path, Job] = {}
    for job in jobs:
        for each in (*with_needs(job.needs), job):
            ordered.setdefault(each.folder(Path()), each)
    return list(ordered.values())
