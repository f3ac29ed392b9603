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
import multiprocessing
import os
import resource
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from distillation_rows import ABLATIONS, FACTORS, ROWS, TRIED, Job, best, source, steps, student, trial, with_needs
from mapkd_rows import run, spread, test
from rich.console import Console

from hdmap_core.models import MapModel
from training.fit.interruption import answers_sigterm


def do(job: Job, arguments: argparse.Namespace) -> None:
    """Trains and scores in this process, unless that has been done; returns early when asked to stop."""
    short = [] if arguments.steps is None else steps(arguments.steps)
    folder = run(job.name, [*job.recipe(arguments.out), *short], job.seed, arguments, Console(), _quicker)
    if job.frames and job.val(arguments.out):
        test(folder, arguments.dataroot, job.frames, parts=False)


def _quicker(model: MapModel) -> None:
    """The layout of images in which convolutions on a CPU are quicker."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def do_all(jobs: list[Job], arguments: argparse.Namespace) -> None:
    """Runs in processes of their own, as many at a time as asked for; what each says goes to `log` in its folder.

    Raises:
        SystemExit: if some could not be done, after all that did not need them.
    """
    waiting = [job for job in with_needs(jobs) if not job.is_done(arguments.out)]
    running: list[tuple[BaseProcess, Job]] = []
    failed: list[str] = []
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    told = False
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mapkd_rows"])  # spares each run the seconds in which it would import everything
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
        ready = [job for job in waiting if all(need.val(arguments.out) for need in job.needs)]
        for job in [] if asked else ready[: arguments.jobs - len(running)]:
            process = context.Process(target=_alone, args=(job, arguments))
            process.start()
            running.append((process, job))
            waiting.remove(job)
        if not running:
            break
        time.sleep(1)
    if failed and not asked:
        raise SystemExit(f"not done: {', '.join(failed)}; the last lines of the log in its folder say why")


def _alone(job: Job, arguments: argparse.Namespace) -> None:
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


def trials_table(out: Path) -> str:
    """mIoU, mAP of every trial that is done, and the best factor of each row; markdown."""
    lines = [f"| row | {' | '.join(f'x{factor:g}' for factor in FACTORS)} | best |", "|---" * (len(FACTORS) + 2) + "|"]
    for row in TRIED:
        trials = [trial(row, factor) for factor in FACTORS]
        found = [job.val(out) for job in trials]
        cells = [f"{scores['mIoU']:.3f}, {scores['mAP']:.3f}" if scores else "–" for scores in found]
        lines.append(f"| {row} | {' | '.join(cells)} | {f'x{best(trials, out):g}' if all(found) else '–'} |")
    return "\n".join(lines)


def table(rows: list[str], seeds: list[int], out: Path) -> str:
    """One line per row, from what run folders hold: both scores and both shares of the teacher's lead; markdown."""
    columns = [f"{key} | {key} per seed | share of the lead | share per seed" for key in ("mIoU", "mAP")]
    lines = [f"| row | seeds | {' | '.join(columns)} |", "|---" * 10 + "|"]
    teacher = source("teacher").test(out)
    for name in ("teacher", "coach"):
        if found := source(name).test(out):
            lines.append(f"| {name} | 1 | {found['mIoU']:.3f} | | | | {found['mAP']:.3f} | | | |")
    missing = []
    for row in rows:
        there = {seed: scores for seed in seeds if (scores := student(row, seed).test(out))}
        missing += [f"{row}-{seed}" for seed in seeds if seed not in there]
        cells = []
        for key in ("mIoU", "mAP"):
            shares = []
            for seed, scores in there.items():
                alone = student("none", seed).test(out)
                if teacher and alone and teacher[key] != alone[key]:
                    shares.append((scores[key] - alone[key]) / (teacher[key] - alone[key]))
            cells += spread([scores[key] for scores in there.values()], ".3f")
            cells += spread(shares, ".0%") if row != "none" else ["", ""]
        lines.append(f"| {row} | {len(there)} | {' | '.join(cells)} |")
    return "\n".join([*lines, *([f"\nMissing: {', '.join(missing)}"] if missing else [])])


@answers_sigterm
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=["all", "row", "tune", "table"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=[*ROWS, *ABLATIONS])
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
        case "all":
            do_all(
                [source("teacher"), source("coach"), *(student(row, seed) for seed in seeds for row in rows)], arguments
            )
        case "row":
            for job in with_needs([student(row, seed) for row in rows for seed in seeds]):
                do(job, arguments)
    if arguments.what == "table":
        print(trials_table(arguments.out), end="\n\n")
    if arguments.what in ("all", "row", "table"):
        print(table(rows, seeds, arguments.out))


if __name__ == "__main__":
    main()
