"""CPU milliseconds of the student's network per image set in every engine that is here, and what each does to accuracy.

One process, one thread, the engines in turn on each set, so that a machine that is busy is so for all of them. The
drive is one that the student has never seen (synth-v1, val); its exports are made first.

Run: python benchmarks/engines.py [--keyframes 20] [--repeats 3]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import figures, town
from rich.console import Console

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.elements import MapElement
from hdmap_core.errors import HdmapError
from hdmap_core.export.onnx_file import export_onnx
from hdmap_core.export.openvino_file import export_openvino
from hdmap_core.export.reference import reference
from hdmap_core.inference import default_weights
from hdmap_core.inference.engine import Engine, output_tensors
from hdmap_core.inference.opening import open_engine
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import preprocess
from hdmap_core.running.parallel import one_thread

WHOLE, EAGER = "PyTorch, all heads", "PyTorch, published head"


def engines(folder: Path) -> dict[str, Engine]:
    """Every engine that runs here, by what the table calls it."""
    export_onnx(reference(default_weights()), folder / "student.onnx")
    found = {
        EAGER: open_engine(default_weights(), "cpu", engine="eager"),
        "ONNX Runtime": open_engine(folder / "student.onnx", "cpu"),
    }
    try:
        export_openvino(reference(default_weights()), folder / "student.xml")
        found["OpenVINO"] = open_engine(folder / "student.xml", "cpu")
        found["OpenVINO, bf16"] = open_engine(folder / "student.xml", "cpu", "bf16")
    except HdmapError as error:
        print(error)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    one_thread()
    cpu_ms: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = town(Path(folder) / "world", "v1", keyframes=arguments.keyframes, scenes=1)
        running, whole = engines(Path(folder)), load_checkpoint(default_weights()).model
        config = running[EAGER].source.config
        classes, grid = config.model.classes, config.model.grid
        truth = {t: dataset.elements(t, grid.x_range, grid.y_range, classes) for t in dataset.tokens}
        predicted: dict[str, dict[str, list[MapElement]]] = {name: {} for name in running}
        apart, overlap = dict.fromkeys(running, 0.0), {name: np.zeros(2) for name in running}
        for number, token in enumerate(dataset.tokens):
            inputs = preprocess(dataset.observation(token), config.model)
            for repeat in range(arguments.repeats + (number == 0)):
                outputs = {}
                for name in (WHOLE, *running):
                    begin = time.process_time()
                    if name == WHOLE:
                        with torch.inference_mode():
                            whole(inputs)
                    else:
                        outputs[name] = running[name](inputs)
                    if number or repeat:  # the very first warms up
                        cpu_ms.setdefault(name, []).append(1e3 * (time.process_time() - begin))
            wanted = output_tensors(outputs[EAGER])["masks"]
            inside = wanted > 0  # of probability 0.5
            for name, output in outputs.items():
                masks = output_tensors(output)["masks"]
                apart[name] = max(apart[name], float((masks - wanted).abs().max() / wanted.abs().max()))
                overlap[name] += float((inside & (masks > 0)).sum()), float((inside | (masks > 0)).sum())
                predicted[name][token] = decode(output, config.decode, classes=classes, grid=grid)
    title = f"the student, {len(truth)} sets x {arguments.repeats}, one thread"
    columns = ("engine", "CPU ms, median", "PyTorch = 1", "largest difference", "IoU of masks", "mAP")
    table = figures(title, *columns)
    plain = float(np.median(cpu_ms[EAGER]))
    for name, samples in cpu_ms.items():
        median = float(np.median(samples))
        row = [name, f"{median:.1f}", f"{plain / median:.2f}"]
        if name in running:
            score = chamfer_ap(predicted[name], truth, "maptr").mean_ap
            row += [f"{apart[name]:.1g}", f"{overlap[name][0] / overlap[name][1]:.4f}", f"{score:.4f}"]
        table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
