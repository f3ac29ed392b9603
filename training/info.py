"""What training knows for `hdmap info`: run folders and recipes."""

from pathlib import Path

from hdmap_core.checkpoint import SUFFIX
from hdmap_core.config import load_config
from hdmap_core.info import What
from training.config import TrainConfig


def describe(path: Path) -> What | None:
    """What a folder or file is, if it is a run folder or a recipe."""
    if path.is_dir():
        return _run(path) if (path / "config.yaml").is_file() else None
    return _recipe(path) if path.suffix in (".yaml", ".yml") else None


def _run(folder: Path) -> What:
    from training.fit.run_folder import metrics_of

    config = load_config(TrainConfig, folder / "config.yaml")
    found = {name: folder / "checkpoints" / (name + SUFFIX) for name in ("best", "last", "state")}
    records = metrics_of(folder)
    step = max((record["step"] for record in records), default=0)
    facts = {
        "recipe": f"{config.model.name} on {config.data.root}, splits {config.data.train} and {config.data.val}",
        "steps": f"{step} of {config.optim.steps} logged",
        "checkpoints": ", ".join(path.name for path in found.values() if path.is_file()) or "none yet",
    }
    scores = [(record[config.best_by], record["step"]) for record in records if config.best_by in record]
    if scores:
        best, at = max(scores)
        facts["best"] = f"{config.best_by} {best:.3f} at step {at}"
    commands = []
    if step < config.optim.steps:
        commands.append(f"hdmap train {folder / 'config.yaml'} --resume -o {folder}")
    if found["best"].is_file() or found["last"].is_file():
        commands += [
            f"hdmap evaluate {folder} {config.data.root} --split {config.data.val}",
            f"hdmap predict {folder} {config.data.root} -o map.png",
        ]
    return What("a run folder of hdmap train", facts, tuple(commands))


def _recipe(path: Path) -> What | None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not any(line.startswith("model:") for line in lines):  # topics and calibrations are YAML too
        return None
    config = load_config(TrainConfig, path)
    slots = ("backbone", "view_transform", "lidar", "sd_prior", "bev_encoder", "vectors", "segmentation", "dense")
    filled = {slot: getattr(config.model, slot) for slot in (*slots, "hd_refiner")}
    facts = {
        "model": config.model.name,
        "slots": ", ".join(f"{slot} {getattr(part, 'kind', '')}".strip() for slot, part in filled.items() if part),
        "data": f"{config.data.root}, splits {config.data.train} and {config.data.val}",
        "schedule": f"{config.optim.steps} steps of {config.optim.batch_size}, lr {config.optim.lr:g}",
    }
    if lines[0].startswith("# "):
        facts["about"] = lines[0].removeprefix("# ")
    commands = (f"hdmap train {path} data.root=DATAROOT --dry-run", f"hdmap train {path} data.root=DATAROOT")
    return What("a recipe of hdmap train", facts, commands)
