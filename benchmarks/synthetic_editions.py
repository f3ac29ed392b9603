"""What an image and a LiDAR turn of a synthetic town cost: the first edition, the second without and with its relief.

    python benchmarks/synthetic_editions.py [--towns 3] [--rounds 2]

CPU milliseconds of one thread, 900 x 1600, as `hdmap synth` writes them, lenses and JPEG included; the least of
some rounds of each image, editions in turn. "Prepared" is what a scene needs once, by the 240 images that it has.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from measuring import cpu_s
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.synthetic.ground.relief import FLAT
from hdmap_core.datasets.synthetic.presets import PRESETS, TownPlan, plan_towns
from hdmap_core.datasets.synthetic.render_town import Recorder, SceneWork, TownWork

KEYFRAMES = (8, 24)
IMAGES_PER_SCENE = 240
EDITIONS = ("edition 1", "edition 2, flat", "edition 2")


def scenes(plan: TownPlan) -> dict[str, SceneWork]:
    """The same drive in both editions."""
    second = TownWork(PRESETS["v2"], plan).scene(0)
    flat = replace(second, town=replace(second.town, relief=FLAT), drive=replace(second.drive, relief=FLAT))
    return {"edition 1": TownWork(PRESETS["v1"], plan).scene(0), "edition 2, flat": flat, "edition 2": second}


def jobs(scene: SceneWork) -> tuple[float, dict[str, list[Callable[[], object]]]]:
    """CPU milliseconds to prepare a scene; drawing each image of some keyframes, turning the LiDAR once at each."""
    start = time.process_time()
    recorder = Recorder(PRESETS["v2"], scene, 1)
    prepared = 1e3 * (time.process_time() - start)
    lidar, rig = recorder.lidar, scene.shots.rig
    works: dict[str, list[Callable[[], object]]] = {"image": [], "turn": []}
    for firing in scene.shots.firings:
        if firing.keyframe not in KEYFRAMES:
            continue
        if firing.channel == "LIDAR_TOP":
            at = scene.town_s(firing)
            works["turn"].append(partial(lidar.cast_sweep, scene.town_from_ego, rig.ego_from_lidar, at, 1))
        else:
            works["image"].append(partial(recorder.photograph, firing))
    return prepared, works


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    taken: dict[tuple[str, str], list[float]] = {}
    for plan in plan_towns(PRESETS["v2"].model_copy(update={"towns": {"val": options.towns}})):
        work = {name: jobs(scene) for name, scene in scenes(plan).items()}
        each = {
            (name, kind, i): job
            for name in EDITIONS
            for kind, of_kind in work[name][1].items()
            for i, job in enumerate(of_kind)
        }
        least = dict.fromkeys(each, np.inf)
        for key in list(each) * options.rounds:
            least[key] = min(least[key], 1e3 * cpu_s(each[key]))
        for (name, kind, _), milliseconds in least.items():
            taken.setdefault((name, kind), []).append(milliseconds)
        for name in EDITIONS:
            taken.setdefault((name, "prepared"), []).append(work[name][0] / IMAGES_PER_SCENE)
    table = Table("", "ms per image", "prepared, per image", "together", "ratio", "ms per LiDAR turn")
    first = float(np.mean(taken["edition 1", "image"]) + np.mean(taken["edition 1", "prepared"]))
    for name in EDITIONS:
        image, prepared, turn = (float(np.mean(taken[name, kind])) for kind in ("image", "prepared", "turn"))
        figures = (image, prepared, image + prepared)
        table.add_row(name, *(f"{x:.1f}" for x in figures), f"{(image + prepared) / first:.2f}", f"{turn:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
