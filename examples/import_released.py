"""A paper's released weights as a checkpoint, and the map that they see: MapQR, MapTR, P-MapNet, MapKD and others.

    python examples/import_released.py mapqr_r50.pth data/nuscenes -o mapqr.safetensors

The same on the command line: hdmap import mapqr_r50.pth -o mapqr.safetensors. The file is read, never run; where it
lies, and what the models were told that your car does not know: docs/released_weights.md.
"""

import argparse
from pathlib import Path

from hdmap_core import NuScenesDataset, load_predictor
from hdmap_core.released.importing import import_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="as its authors offer it: .pth, .pt")
    parser.add_argument("dataroot", type=Path, help="a nuScenes folder")
    parser.add_argument("--as", dest="kind", help="what the file does not tell itself: pmapnet-60x30")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/imported.safetensors"))
    parser.add_argument("changes", nargs="*", help="to the checkpoint's config: decode.score_threshold=0.3")
    arguments = parser.parse_intermixed_args()

    found = import_file(arguments.file, arguments.out, kind=arguments.kind, overrides=arguments.changes)
    print(f"{found.title}: {found.num_parameters / 1e6:.1f} M parameters → {arguments.out}")
    for note in found.notes:
        print(f"- {note}")

    predictor, dataset = load_predictor(arguments.out), NuScenesDataset(arguments.dataroot)
    observation = dataset.observation(dataset.tokens[0], sweeps=max(1, predictor.info.lidar_sweeps))
    prediction = predictor.predict(observation)
    prediction.save(arguments.out.with_suffix(".png"), observation)
    print(f"{len(prediction.elements)} elements → {arguments.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
