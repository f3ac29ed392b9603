"""Samples per second of training with 1 and 2 processes and the same global batch, on this machine's CPUs.

Run: python benchmarks/training_scaling.py [--root data/tiny] [--steps 30]

Each row is a run of `hdmap train` in its own processes with one thread each; the rate is the one that the run logs at
its last step, its start included. On a machine with as many cores as processes, the loader's workers share them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

HDMAP = Path(__file__).resolve().parents[1] / "scripts" / "hdmap"


def rate_of(arguments: argparse.Namespace, devices: int, folder: Path) -> float:
    """Samples per second of one run.

    Raises:
        subprocess.CalledProcessError: if the run fails; its output has been shown.
    """
    steps = arguments.steps
    overrides = [
        *(f"data.root={arguments.root}", f"optim.steps={steps}", "optim.batch_size=8"),
        *(f"log_every={steps}", f"save_every={steps}", f"evaluate_every={steps}", "evaluate_frames=1"),
    ]
    command = [sys.executable, str(HDMAP), "train", "config/recipes/tiny/ground.yaml", *overrides, "-o", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--accelerator", "cpu", "--devices", str(devices)],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next(line["samples_per_s"] for line in reversed(lines) if line["phase"] == "train")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/tiny", help="made by: hdmap synth data/tiny --preset tiny")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    table = Table("processes", "samples/s", "of one process", title=f"{os.cpu_count()} cores, one thread per process")
    with tempfile.TemporaryDirectory() as scratch:
        rates = [rate_of(arguments, devices, Path(scratch) / str(devices)) for devices in (1, 2)]
    for devices, rate in enumerate(rates, start=1):
        table.add_row(str(devices), f"{rate:.1f}", f"{rate / rates[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
