"""What a checkpoint says of the run that made it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hdmap_core.inference.known_rigs import described
from training.config import TrainConfig
from training.data.keyframes import Keyframes
from training.distill.sources import Source, as_provenance

_RIG_SCENES = 64
"""Scenes whose rigs a checkpoint's provenance holds."""


def provenance_of(config: TrainConfig, parts: Sequence[Keyframes], sources: Mapping[str, Source]) -> dict[str, Any]:
    """Plain JSON values: data, rigs, seed and commit, and who taught it if somebody did.

    Args:
        config: the recipe.
        parts: the keyframes of each folder and ground that is trained on.
        sources: of a distillation.
    """
    return {
        "dataset": " + ".join(_named(part) for part in parts),
        "dataset_version": parts[0].version,
        "train_split": config.data.train,
        "train_keyframes": sum(map(len, parts)),
        "rigs": _rigs(parts),
        "seed": config.seed,
        "commit": _commit(),
    } | ({"sources": as_provenance(sources, config)} if sources else {})


def _named(part: Keyframes) -> str:
    return part.root.resolve().name + (" (ground by LiDAR)" if part.lidar_ground else "")


def _rigs(parts: Sequence[Keyframes]) -> list[list[dict[str, Any]]]:
    """The different rigs of the scenes, of at most so many of each folder."""
    seen: list[list[dict[str, Any]]] = []
    for part in parts:
        dataset = part.dataset
        first = {dataset.scene_of(token).name: token for token in reversed(part.tokens.tolist())}
        for token in list(first.values())[:_RIG_SCENES]:
            rig = described(dataset.observation(token, images=False, points=False, roads=False).rig)
            if rig not in seen:
                seen.append(rig)
    return seen


def _commit() -> str:
    """Of the checkout that this code runs from; `unknown` when it is installed, or there is no git."""
    try:
        here = Path(__file__).parent
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"
