"""MapKD and its rivals on synth-v1: how much of the teacher's lead does a student of cameras recover?

    python experiments/distillation.py DATAROOT OUT all [--seeds 0 1 2] [--jobs 2]
    python experiments/distillation.py DATAROOT OUT row --rows "MapKD meant" [--seeds 0]
    python experiments/distillation.py DATAROOT OUT tune [--jobs 2]
    python experiments/distillation.py DATAROOT OUT table

DATAROOT is `hdmap synth DATAROOT --preset v1 --image-size 225x400 --lidar keyframes`. Every run lands in a folder of
OUT; finished ones are not repeated, one that was cut goes on. SIGTERM and Ctrl-C stop everything, saved; the same
command goes on. `all` and `tune` start a process per run; `row` trains in this one. The setup and what came out stand
in docs/results/distillation.md.
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import statistics
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from mapkd_rows import ALONE, BACKBONE, PILLARS, REFINER, SD, SIMULATED, run, test
from rich.console import Console

from hdmap_core.models import MapModel
from training.interruption import answers_sigterm
from training.run_folder import metrics_of

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

CHOSEN: dict[str, float] = {}
"""Row -> the factor on all of its terms that was best in its trials, by mIoU + mAP on val."""

TUNED = {row: row for row in ROWS if row != "none"} | {
    "MapKD published": "MapKD published, no coach",
    "MapKD meant": "MapKD meant, no coach",
}
"""Row -> the row by whose trials its factor was chosen."""


TRIED = sorted(set(TUNED.values()), key=list(ROWS).index)
"""Rows that have trials."""


def write(terms: Terms, factor: float) -> list[str]:
    """Terms as deviations of a recipe."""
    scaled = [{**term, "weight": float(str(term["weight"])) * factor} for term in terms]
    return ["objective=distillation", f"distillation={json.dumps(scaled)}", KEPT] if terms else []


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        name: of its folder, without the seed.
        deviations: from the recipe.
        takes: field of the recipe -> the source it names.
        frames: how many test keyframes it is scored on; 0: it is looked at on val only.
    """

    name: str
    seed: int
    deviations: list[str]
    takes: dict[str, str]
    frames: int

    def folder(self, out: Path) -> Path:
        """Where it lands."""
        return out / f"{self.name}-{self.seed}"

    def is_trained(self, out: Path) -> bool:
        """Whether it has reached its last step, after which it looks at val."""
        return any(record["phase"] == "val" for record in metrics_of(self.folder(out)))

    def is_done(self, out: Path) -> bool:
        """Trained to the end, and scored if it is to be."""
        return (self.folder(out) / "test.json").is_file() if self.frames else self.is_trained(out)


def source(name: str) -> Job:
    """The run of something that teaches."""
    deviations, first, terms = SOURCES[name]
    takes = {} if first is None else {"start.model": first}
    if REFINER in deviations and first is not None:
        takes["start.hd_refiner"] = "refiner"
    # another seed, or the second stage would see the first one's keyframes again in the same order
    deviations = [*deviations, *(["seed=100"] if first else []), *write(terms, 1.0)]
    frames = TEST_FRAMES if name in ("teacher", "coach") else 0
    return Job(name, 0, deviations, takes | _sources(terms), frames)


def student(row: str, seed: int) -> Job:
    """The run of a row.

    Raises:
        SystemExit: if its factor has not been chosen.
    """
    if row != "none" and TUNED[row] not in CHOSEN:
        raise SystemExit(f"no factor has been chosen for {row}: run `tune`, and write what it says into CHOSEN")
    beside, terms = ROWS[row]
    deviations = [*beside, *STUDENT, *write(terms, CHOSEN.get(TUNED.get(row, ""), 1.0))]
    return Job(row, seed, deviations, _sources(terms), TEST_FRAMES)


def trial(row: str, factor: float) -> Job:
    """A short run that says on val what a factor is worth."""
    beside, terms = ROWS[row]
    deviations = [*beside, *TRIAL, *write(terms, factor)]
    return Job(f"trial {row} x{factor:g}", TRIAL_SEED, deviations, _sources(terms), 0)


def _sources(terms: Terms) -> dict[str, str]:
    return {f"sources.{term['source']}": str(term["source"]) for term in terms}


def with_sources(jobs: list[Job]) -> list[Job]:
    """These and all that they need, what is needed first."""
    ordered: dict[Path, Job] = {}
    for job in jobs:
        for each in (*with_sources([source(name) for name in job.takes.values()]), job):
            ordered.setdefault(each.folder(Path()), each)
    return list(ordered.values())


def do(job: Job, arguments: argparse.Namespace) -> None:
    """Trains and scores in this process, unless that has been done; returns early when asked to stop."""
    taken = [f"{field}={source(name).folder(arguments.out)}" for field, name in job.takes.items()]
    short = [] if arguments.steps is None else steps(arguments.steps)
    folder = run(job.name, [*job.deviations, *taken, *short], job.seed, arguments, Console(), _quicker)
    if job.frames and job.is_trained(arguments.out):
        test(folder, arguments.dataroot, job.frames, parts=False)


def _quicker(model: MapModel) -> None:
    """The layout of images in which convolutions on a CPU are quicker."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def do_all(jobs: list[Job], arguments: argparse.Namespace) -> None:
    """Runs in processes of their own, as many at a time as asked for; what each says goes to `log` in its folder.

    Raises:
        SystemExit: if some could not be done, after all that did not need them.
    """
    waiting = [job for job in with_sources(jobs) if not job.is_done(arguments.out)]
    running: list[tuple[BaseProcess, Job]] = []
    failed: list[str] = []
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    told = False
    while waiting or running:
        if asked and not told:  # once: a second signal would not let them save
            for process, _ in running:
                process.terminate()
            told = True
        for process, job in [each for each in running if not each[0].is_alive()]:
            running.remove((process, job))
            done = job.is_done(arguments.out)
            print(f"{time.strftime('%H:%M:%S')} {job.folder(Path())}: {'done' if done else 'not done'}", flush=True)
            failed += [] if done else [str(job.folder(Path()))]
        ready = [job for job in waiting if all(source(name).is_trained(arguments.out) for name in job.takes.values())]
        for job in [] if asked else ready[: arguments.jobs - len(running)]:
            process = multiprocessing.get_context("fork").Process(target=_alone, args=(job, arguments))
            process.start()
            running.append((process, job))
            waiting.remove(job)
        if not running:
            break
        time.sleep(1)
    if failed and not asked:
        raise SystemExit(f"not done: {', '.join(failed)}; the last lines of the log in its folder say why")


def _alone(job: Job, arguments: argparse.Namespace) -> None:
    """In a fork, which spares each run the seconds in which it would import everything."""
    os.setsid()  # Ctrl-C is for the parent, which passes it on
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    folder = job.folder(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    answers_sigterm(do)(job, arguments)
    spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{spent:.0f} CPU seconds", flush=True)


def last_val(job: Job, out: Path) -> dict[str, float] | None:
    """Its scores on val, or None."""
    return next((record for record in metrics_of(job.folder(out)) if record["phase"] == "val"), None)


def trials_table(out: Path) -> str:
    """mIoU, mAP of every trial that is done, and the best factor of each row; markdown."""
    lines = [f"| row | {' | '.join(f'x{factor:g}' for factor in FACTORS)} | best |", "|---" * (len(FACTORS) + 2) + "|"]
    for row in TRIED:
        found = {factor: last_val(trial(row, factor), out) for factor in FACTORS}
        sums = {factor: scores["mIoU"] + scores["mAP"] for factor, scores in found.items() if scores}
        cells = [f"{scores['mIoU']:.3f}, {scores['mAP']:.3f}" if scores else "–" for scores in found.values()]
        best = f"x{max(sums, key=lambda factor: sums[factor]):g}" if sums else "–"
        lines.append(f"| {row} | {' | '.join(cells)} | {best} |")
    return "\n".join(lines)


def tested(job: Job, out: Path) -> dict[str, float] | None:
    """Its scores on the test towns, or None."""
    result = job.folder(out) / "test.json"
    return json.loads(result.read_text()) if result.is_file() else None


def table(rows: list[str], seeds: list[int], out: Path) -> str:
    """One line per row, from what run folders hold: both scores and both shares of the teacher's lead; markdown."""
    columns = [f"{key} | {key} per seed | share of the lead | share per seed" for key in ("mIoU", "mAP")]
    lines = [f"| row | seeds | {' | '.join(columns)} |", "|---" * 10 + "|"]
    teacher = tested(source("teacher"), out)
    for name in ("teacher", "coach"):
        if found := tested(source(name), out):
            lines.append(f"| {name} | 1 | {found['mIoU']:.3f} | | | | {found['mAP']:.3f} | | | |")
    missing = []
    for row in rows:
        there = {seed: scores for seed in seeds if (scores := tested(Job(row, seed, [], {}, 1), out))}
        missing += [f"{row}-{seed}" for seed in seeds if seed not in there]
        cells = []
        for key in ("mIoU", "mAP"):
            shares = []
            for seed, scores in there.items():
                alone = tested(Job("none", seed, [], {}, 1), out)
                if teacher and alone and teacher[key] != alone[key]:
                    shares.append((scores[key] - alone[key]) / (teacher[key] - alone[key]))
            cells += _spread([scores[key] for scores in there.values()], ".3f")
            cells += _spread(shares, ".0%") if row != "none" else ["", ""]
        lines.append(f"| {row} | {len(there)} | {' | '.join(cells)} |")
    return "\n".join([*lines, *([f"\nMissing: {', '.join(missing)}"] if missing else [])])


def _spread(values: list[float], form: str) -> list[str]:
    """Mean ± standard deviation, and each."""
    if not values:
        return ["–", "–"]
    apart = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return [f"{statistics.mean(values):{form}}{apart}", ", ".join(f"{value:{form}}" for value in values)]


@answers_sigterm
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=["all", "row", "sources", "tune", "table"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each of one thread")
    parser.add_argument("--steps", type=int, help="of every run, to try this script out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, seeds = arguments.rows, arguments.seeds
    match arguments.what:
        case "tune":
            tried = [row for row in TRIED if row in rows]
            do_all([trial(row, factor) for row in tried for factor in FACTORS], arguments)
            print(trials_table(arguments.out))
        case "sources":
            do_all([source("teacher"), source("coach")], arguments)
        case "all":
            do_all(
                [source("teacher"), source("coach"), *(student(row, seed) for seed in seeds for row in rows)], arguments
            )
        case "row":
            for job in with_sources([student(row, seed) for row in rows for seed in seeds]):
                do(job, arguments)
    if arguments.what in ("all", "row", "table"):
        print(table(rows, seeds, arguments.out))


if __name__ == "__main__":
    main()
