"""What a checkpoint makes of rigs that it has never seen: the same towns and drives through nuScenes' rig and others.

Test towns are rendered through nuScenes' rig, through `varied` rigs and through `unseen` ones, which are kept back from
training (hdmap_core/datasets/synthetic/sensors/other_rigs.py). Of the latter two also with the true calibration in
place of the one in the tables, which is off by up to 0.5 degrees. The published table: docs/results/unseen_rigs.md.

Run: python experiments/unseen_rigs.py OUT [--weights FILE] [--towns 12] [--keyframes 3] [--edition 1] [--workers 1]
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import SynthConfig, plan_towns
from hdmap_core.datasets.synthetic.sensors.other_rigs import Kind, other_rig
from hdmap_core.datasets.synthetic.sensors.rig import Rig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import MapElement
from hdmap_core.geometry import se3
from hdmap_core.inference import Predictor, default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.observation import Observation

Elements = dict[tuple[str, int], list[MapElement]]
"""Of each keyframe by its scene and its number in it, which are the same in every set."""
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


def predicted(
    dataset: NuScenesDataset, predictor: Predictor, true_rigs: dict[str, Rig] | None = None
) -> tuple[Elements, Elements]:
    """What is said and what is true, with the calibration of the tables or, by scene, of true rigs."""
    said, true = {}, {}
    grid = predictor.info.grid
    for scene in dataset.scenes:
        for number, token in enumerate(scene.sample_tokens):
            observation = dataset.observation(token, points=False)
            if true_rigs is not None:
                observation = truly_calibrated(observation, true_rigs[scene.name])
            said[scene.name, number] = predictor.predict(observation).elements
            true[scene.name, number] = dataset.elements(token, grid.x_range, grid.y_range)
    return said, true


def row(said: Elements, true: Elements, scenes: set[str] | None = None) -> list[str]:
    """MAP, AP of the classes, and mAP at each threshold, of all keyframes or those of some scenes."""
    kept = [key for key in true if scenes is None or key[0] in scenes]
    score = chamfer_ap({str(key): said[key] for key in kept}, {str(key): true[key] for key in kept})
    per_class = [f"{of_class.mean_ap:.3f}" for of_class in score.classes.values()]
    return [str(len(kept)), f"{score.mean_ap:.3f}", *per_class]


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
        dataset = NuScenesDataset(folder)
        results[name] = predicted(dataset, predictor)
        summary.add_row(name, "as in the tables", *row(*results[name]))
        if name in rigs:
            summary.add_row(name, "true", *row(*predicted(dataset, predictor, rigs[name])))
    console.print(summary)
    groups = Table("unseen rigs", "keyframes", "mAP", "divider", "ped crossing", "boundary", "nuScenes' rig there")
    for title, belongs in GROUPS.items():
        scenes = {scene for scene, rig in rigs["unseen"].items() if belongs(rig)}
        if scenes:
            groups.add_row(title, *row(*results["unseen"], scenes), row(*results["nuscenes"], scenes)[1])
    console.print(groups)


if __name__ == "__main__":
    main()
