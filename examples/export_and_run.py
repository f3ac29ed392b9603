"""A model as an ONNX file, run by ONNX Runtime alone: what your C++ program would do.

    hdmap synth data/synth --preset tiny --lidar none
    python examples/export_and_run.py data/synth -o out/student.onnx

Needs the extra `export`. `load_predictor("out/student.onnx")` does all of the second half for you.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from hdmap_core import NuScenesDataset, default_weights, load_predictor
from hdmap_core.export.onnx_file import export_onnx
from hdmap_core.export.reference import reference
from hdmap_core.inference.engine import input_tensors, output_tensors
from hdmap_core.preprocess import preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="a nuScenes folder, real or synthetic")
    parser.add_argument("--weights", type=Path, default=default_weights(), help="a checkpoint or run folder")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/student.onnx"))
    arguments = parser.parse_args()

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    deviation = export_onnx(reference(arguments.weights), arguments.out)  # refuses a file that disagrees with PyTorch
    print(f"{arguments.out}: off PyTorch by {deviation:.1g} of the largest value")

    predictor = load_predictor(arguments.weights, "cpu", engine="eager")
    inputs = preprocess(
        NuScenesDataset(arguments.dataroot)[0], predictor.config.model
    )  # the part that is not in the file
    session = onnxruntime.InferenceSession(arguments.out, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in input_tensors(inputs).items()})
    wanted = output_tensors(predictor.engine(inputs))
    for name, value in zip(names, found, strict=True):
        difference = np.abs(value - wanted[name].numpy()).max()
        print(f"{name} {value.shape}: at most {difference:.1g} off PyTorch's, of up to {np.abs(value).max():.3g}")


if __name__ == "__main__":
    main()
