"""Random faults, alone and together, in a real ROS graph: what the node names, how soon it is at full rate again.

The node of the tests (`test/ros/fault_injection.py`) with default diagnostics: six small cameras at about 12 Hz, a
stand-in for the network that draws what the true rig would show, so that every wrong map is found. A round waits for
full rate, lets one to three faults begin for some seconds, ends them, and waits for full rate again. It ends with exit
code 1 after a wrong map, a node that gave up, or a rate that did not come back.

Run: python benchmarks/fault_soak.py [--minutes 10] [--seed 0] [--json FILE]
"""

import argparse
import importlib.util
import json
import os
import random
import resource
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parents[1] / "test" / "ros"
FAULT_S, GIVE_UP_CYCLES = 3.0, 400


def load(name: str) -> ModuleType:
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resident_mib() -> float:
    """What the process holds of the machine's memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def choose(rig: ModuleType, faults: ModuleType, chance: random.Random) -> list[Any]:
    """One to three faults of different kinds that can happen at once."""
    every = faults.make_faults(rig, chance.choice(rig.CAMERAS))
    chosen = chance.sample(every, chance.choice([1, 1, 2, 3]))
    failing = [fault for fault in chosen if fault.task == "model"]
    return [fault for fault in chosen if fault not in failing[1:]]


def one_round(traffic: Any, chosen: list[Any]) -> dict[str, Any]:
    """Lets the faults happen; seconds until each was named, and until the rate was full again."""
    traffic.mark()
    for fault in chosen:
        fault.begin(traffic)
    begin, named_s = time.monotonic(), {}
    while time.monotonic() - begin < FAULT_S:
        traffic.cycle(chosen)
        for fault in chosen:
            if fault.cause and fault.name not in named_s and traffic.named(fault):
                named_s[fault.name] = round(time.monotonic() - begin, 3)
    for fault in chosen:
        fault.end(traffic)
    traffic.mark()
    end = time.monotonic()
    recovered = traffic.until(traffic.at_full_rate, most=GIVE_UP_CYCLES) is not None
    full_s = round(time.monotonic() - end, 3) if recovered else None
    wrong = traffic.wrong_maps()
    maps = len(traffic.maps)
    del traffic.maps[:-1], traffic.diagnostics[:]
    names = [fault.name for fault in chosen]
    return {"faults": names, "named_s": named_s, "full_rate_s": full_s, "wrong": wrong, "maps": maps}


def soak(minutes: float, seed: int) -> dict[str, Any]:
    """The rounds and what the node holds at their ends."""
    rig, faults = load("conftest"), load("fault_injection")
    from rclpy.parameter import Parameter

    from hdmap_ros.online_map_node import SUCCESS, OnlineMapNode

    graph = load("rig_graph").Graph(rig)
    predictor = faults.FaultyPredictor(rig.RigLines())
    traffic = faults.Traffic(graph, rig, predictor)
    traffic.start_now()
    overrides = [Parameter("sync.min_cameras", value=4)]
    node = graph.add(OnlineMapNode(lambda config: predictor, context=graph.context, parameter_overrides=overrides))
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert graph.until(graph.matched) and traffic.until(traffic.at_full_rate) is not None
    chance, rounds, begin, cycles = random.Random(seed), [], time.monotonic(), traffic.cycles
    held = []
    while time.monotonic() - begin < 60 * minutes and node.session.worker is not None:
        rounds.append(one_round(traffic, choose(rig, faults, chance)))
        held.append(
            {
                "mib": resident_mib(),
                "threads": threading.active_count(),
                "files": len([*Path("/proc/self/fd").iterdir()]),
            }
        )
        if rounds[-1]["full_rate_s"] is None:
            break
    seconds = time.monotonic() - begin
    active = node.session is not None and node.session.worker is not None
    result = {
        "seed": seed, "seconds": round(seconds, 1), "cycles": traffic.cycles - cycles,
        "maps": sum(entry["maps"] for entry in rounds), "active_at_the_end": active,
        "rounds": rounds, "held": held, "report": node.session.report() if active else None,
    }  # fmt: skip
    graph.close()
    return result


def print_table(result: dict[str, Any], causes: set[str]) -> None:
    """Per fault: rounds, how often it was named, how soon; how soon the rate was full."""
    named, full, alone = defaultdict(list), defaultdict(list), defaultdict(list)
    for entry in result["rounds"]:
        for name in entry["faults"]:
            named[name].append(entry["named_s"].get(name))
            full[name].append(entry["full_rate_s"] or np.inf)
            if len(entry["faults"]) == 1:
                alone[name].append(entry["named_s"].get(name))
    table = Table("fault", "rounds", "named", "alone", "named alone", "named, latest s", "full rate, latest s")
    for name in sorted(named):
        found = [value for value in named[name] if value is not None]
        single = [value for value in alone[name] if value is not None]
        told = [str(len(found)), str(len(alone[name])), str(len(single)), f"{max(found, default=0):.2f}"]
        if name not in causes:
            told = ["-", str(len(alone[name])), "-", "-"]
        table.add_row(name, str(len(named[name])), *told, f"{max(full[name]):.2f}")
    Console(width=120).print(table)


def main() -> int:
    """Runs it and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    result = soak(arguments.minutes, arguments.seed)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    causes = {
        fault.name for fault in sys.modules["fault_injection"].make_faults(sys.modules["conftest"]) if fault.cause
    }
    print_table(result, causes)
    rounds, held = result["rounds"], result["held"]
    wrong = [reason for entry in rounds for reason in entry["wrong"]]
    full = [entry["full_rate_s"] for entry in rounds if entry["full_rate_s"] is not None]
    named = [value for entry in rounds for value in entry["named_s"].values()]
    sent = f"{result['cycles']} cycles, {result['maps']} maps"
    print(f"{result['seconds']} s, {len(rounds)} rounds, {sent}, {len(wrong)} wrong")
    for what, values in (("named", named), ("full rate again", full)):
        if values:
            p50, p95, most = np.percentile(values, [50, 95, 100])
            within = sum(value <= 2.0 for value in values)
            print(
                f"{what}: p50 {p50:.2f} s, p95 {p95:.2f} s, latest {most:.2f} s; {within} of {len(values)} within 2 s"
            )
    for key in ("mib", "threads", "files"):
        print(f"{key}: {held[0][key]:.0f} after the first round, {held[-1][key]:.0f} at the end")
    print(*wrong[:20], sep="\n")
    return 0 if not wrong and result["active_at_the_end"] and len(full) == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
