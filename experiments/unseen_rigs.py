"""What a checkpoint makes of rigs that it has never seen: the same towns and drives through nuScenes' rig and others.

Test towns are rendered through nuScenes' rig, through `varied` rigs and through `unseen` ones, which are kept back from
training (hdmap_core/datasets/synthetic/sensors/other_rigs.py). Of the latter two also with the true calibration in
place of the one in the tables, which is off by up to 0.5 degrees. The published table: docs/results/unseen_rigs.md.

Run: python experiments/unseen_rigs.py OUT [--weights FILE] [--towns 12] [--keyframes 3] [--edition 1] [--workers 1]
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from scoring_sets import Elements, predicted, row

from hdmap_core.datasets.synthetic.presets import SynthConfig, plan_towns
from hdmap_core.datasets.synthetic.sensors.other_rigs import Kind, other_rig
from hdmap_core.datasets.synthetic.sensors.rig import Rig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.geometry import se3
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.observation import Observation

GROUPS: dict[str, Callable[[Rig], bool]] = {
    "4 or 5 cameras": lambda rig: len(rig.cameras) <= 5,
    "6 cameras": lambda rig: len(rig.cameras) == 6,
    "7 or 8 cameras": lambda rig: len(rig.cameras) >= 7,
    "below 1.6 m": lambda rig: _height(rig) < 1.6,
    "above 1.6 m": lambda rig: _height(rig) >= 1.6,
    "pinholes": lambda rig: _lenses(rig) == {None},
    "polynomial lenses": lambda rig: "polynomial" in _lenses(rig),
    "fisheyes": lambda rig: "fisheye" in _lenses(rig),
}


def truly_calibrated(observation: Observation, rig: Rig) -> Observation:
    """An observation with the poses that its cameras really had."""
    seen = observation.rig
    poses = seen.ego_from_camera.numpy().copy()
    for i, name in enumerate(seen.names):
        camera = rig.cameras[name]
        poses[i] = poses[i] @ se3.inverse(camera.calibrated) @ camera.ego_from_camera
    return replace(observation, rig=replace(seen, ego_from_camera=torch.from_numpy(poses)))


def _seen_truly(rigs: dict[str, Rig], observation: Observation, scene: str) -> Observation:
    return truly_calibrated(observation, rigs[scene])


def _height(rig: Rig) -> float:
    return float(rig.cameras["CAM_FRONT"].ego_from_camera[2, 3])


def _lenses(rig: Rig) -> set[str | None]:
    return {camera.lens.kind if camera.lens else None for camera in rig.cameras.values()}


def main() -> None:
    """Renders what is not there yet, predicts, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the three sets")
    parser.add_argument("--weights", type=Path, default=default_weights(), help="checkpoint; the shipped student")
    parser.add_argument("--towns", type=int, default=12)
    parser.add_argument("--keyframes", type=int, default=3, help="of each town")
    parser.add_argument("--edition", type=int, choices=(1, 2), default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    predictor, console = load_predictor(options.weights), Console(width=140)
    config = SynthConfig(
        edition=options.edition, towns={"test": options.towns}, keyframes=options.keyframes, image_size=(450, 800),
        lidar="none",
    )  # fmt: skip
    summary = Table("rigs", "calibration", "keyframes", "mAP", "divider", "ped crossing", "boundary")
    results: dict[str, tuple[Elements, Elements]] = {}
    kinds: tuple[Kind, ...] = ("varied", "unseen")
    rigs = {kind: {plan.scene_names[0]: other_rig(kind, plan.seed, 0) for plan in plan_towns(config)} for kind in kinds}
    for name in ("nuscenes", *kinds):
        folder = options.out / name
        write_dataset(folder, config.model_copy(update={"rigs": name}), options.workers)
        results[name] = predicted(folder, predictor)
        summary.add_row(name, "as in the tables", *row(*results[name]))
        if name in rigs:
            seen_truly = partial(_seen_truly, rigs[name])
            summary.add_row(name, "true", *row(*predicted(folder, predictor, seen_truly)))
    console.print(summary)
    groups = Table("unseen rigs", "keyframes", "mAP", "divider", "ped crossing", "boundary", "nuScenes' rig there")
    for title, belongs in GROUPS.items():
        scenes = {scene for scene, rig in rigs["unseen"].items() if belongs(rig)}
        if scenes:
            groups.add_row(title, *row(*results["unseen"], scenes), row(*results["nuscenes"], scenes)[1])
    console.print(groups)


if __name__ == "__main__":
    main()
