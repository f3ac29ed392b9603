"""The map of one keyframe, as numbers and as a picture.

hdmap synth data/synth --preset tiny --lidar none
python examples/predict_frame.py data/synth -o out/frame.png
"""

import argparse
from pathlib import Path

from hdmap_core import NuScenesDataset, load_predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="a nuScenes folder, real or synthetic")
    parser.add_argument("--index", type=int, default=0, help="which keyframe")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/frame.png"))
    arguments = parser.parse_args()

    observation = NuScenesDataset(arguments.dataroot)[arguments.index]  # six images, their calibration, a stamp
    predictor = load_predictor()  # the shipped student; or load_predictor("mine.safetensors", device="cuda")
    prediction = predictor.predict(observation)

    for element in prediction.elements:  # metres: x forward, y left, of the car at observation.stamp_ns
        (x, y), kind = element.points.mean(axis=0), element.label.value
        print(f"{kind:<13} score {element.score:.2f}, {len(element.points)} points about ({x:6.1f}, {y:6.1f}) m")
    prediction.save(arguments.out, observation)  # .png; .geojson and .jsonl without the observation
    print(f"{len(prediction.elements)} elements in {sum(prediction.timings_ms.values()):.0f} ms → {arguments.out}")


if __name__ == "__main__":
    main()
