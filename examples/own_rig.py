"""Cameras of your own: any number, any size, anywhere on the car, one with a fisheye lens, one that is missing.

    python examples/own_rig.py FRONT.jpg LEFT.jpg -o out/own.png

The calibration here is made up; put yours in its place. Frames and units: docs/conventions.md.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from hdmap_core import CameraRig, Observation, load_predictor
from hdmap_core.geometry.lens import lens_of
from hdmap_core.geometry.se3 import rotation_from_euler, se3

OPTICAL = rotation_from_euler(-np.pi / 2, 0.0, -np.pi / 2)  # a camera's axes are right, down, forward


def mounted(yaw_degrees: float, x: float, y: float, z: float) -> np.ndarray:
    """(4, 4) pose in the car of a level camera that looks so far to the left of straight ahead; metres."""
    return se3(rotation_from_euler(0.0, 0.0, np.deg2rad(yaw_degrees)) @ OPTICAL, [x, y, z])


def pinhole(focal: float, height: int, width: int) -> np.ndarray:
    """(3, 3) intrinsics in pixels, the principal point in the middle."""
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("front", type=Path)
    parser.add_argument("left", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/own.png"))
    arguments = parser.parse_args()

    front, left = (np.asarray(Image.open(path).convert("RGB")) for path in (arguments.front, arguments.left))
    sizes = [front.shape[:2], left.shape[:2], front.shape[:2]]
    rig = CameraRig.from_arrays(
        names=["FRONT", "LEFT", "BACK"],
        intrinsics=[pinhole(0.8 * size[1], *size) for size in sizes],
        ego_from_camera=[mounted(0, 1.7, 0, 1.5), mounted(90, 1.0, 0.9, 1.2), mounted(180, -0.9, 0, 1.3)],
        image_size=sizes,
        lenses=[None, lens_of("equidistant", [0.01, -0.002, 0.0, 0.0]), None],
    )
    observation = Observation((front, left, None), rig, stamp_ns=0, token="mine")  # BACK sent nothing
    prediction = load_predictor().predict(observation)
    prediction.save(arguments.out, observation)
    print(f"{len(prediction.elements)} elements → {arguments.out}")


if __name__ == "__main__":
    main()
