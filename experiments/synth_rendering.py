"""What an image and a LiDAR turn of a synthetic town cost: the first edition, the second without and with its relief.

The published table is in docs/results/synth_rendering.md.

Run: python experiments/synth_rendering.py [--towns 3] [--rounds 3]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.synthetic.cameras import TownRenderer
from hdmap_core.datasets.synthetic.lidar import TownLidar
from hdmap_core.datasets.synthetic.presets import PRESETS, TownPlan, plan_towns
from hdmap_core.datasets.synthetic.relief import FLAT
from hdmap_core.datasets.synthetic.render_town import SceneWork, TownWork

KEYFRAMES = (8, 24)


def scenes(plan: TownPlan) -> dict[str, SceneWork]:
    """The same drive in both editions."""
    second = TownWork(PRESETS["v2"], plan).scene(0)
    flat = replace(second, town=replace(second.town, relief=FLAT), drive=replace(second.drive, relief=FLAT))
    return {"edition 1": TownWork(PRESETS["v1"], plan).scene(0), "edition 2, flat": flat, "edition 2": second}


def jobs(scene: SceneWork) -> tuple[list[Callable[[], object]], list[Callable[[], object]]]:
    """Drawing each image of some keyframes, and turning the LiDAR once at each of them."""
    renderer, lidar, rig = TownRenderer(scene.town), TownLidar(scene.town), scene.shots.rig
    images, turns = [], []
    for firing in scene.shots.firings:
        if firing.keyframe not in KEYFRAMES:
            continue
        at = scene.town_s(firing)
        if firing.channel == "LIDAR_TOP":
            turns.append(lambda at=at: lidar.cast_sweep(scene.town_from_ego, rig.ego_from_lidar, at, 1))
            continue
        camera = rig.cameras[firing.channel]
        pose = scene.town_from_ego(at) @ camera.ego_from_camera
        images.append(lambda c=camera, p=pose, at=at: renderer.render(c.intrinsics, p, c.image_size, at))
    return images, turns


def main() -> None:
    """Prints the table: CPU milliseconds, the least of some rounds, editions in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    plans = plan_towns(PRESETS["v2"].model_copy(update={"towns": {"val": options.towns}}))
    best: dict[tuple[str, str], list[float]] = {}
    for plan in plans:
        work = {name: jobs(scene) for name, scene in scenes(plan).items()}
        taken = {(name, kind): np.full(len(each[k]), np.inf)
                 for name, each in work.items() for k, kind in enumerate(("image", "turn"))}  # fmt: skip
        for _ in range(options.rounds):
            for (name, kind), least in taken.items():
                for i, job in enumerate(work[name][kind == "turn"]):
                    start = time.process_time()
                    job()
                    least[i] = min(least[i], 1e3 * (time.process_time() - start))
        for key, least in taken.items():
            best.setdefault(key, []).extend(least.tolist())
    table = Table("", "ms CPU per image", "against edition 1", "ms CPU per LiDAR turn", title="900 x 1600, one thread")
    for name in ("edition 1", "edition 2, flat", "edition 2"):
        image, turn = np.mean(best[name, "image"]), np.mean(best[name, "turn"])
        share = image / np.mean(best["edition 1", "image"])
        table.add_row(name, f"{image:.1f}", f"{share:.2f}", f"{turn:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
