"""A synthetic world, written and read: towns that nobody drew, in nuScenes' format, with their ground truth.

python examples/write_world.py data/mine --towns 4 --seed 7
"""

import argparse
from collections import Counter
from pathlib import Path

from hdmap_core import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder; an interrupted one is finished")
    parser.add_argument("--towns", type=int, default=4, help="of them the first half to train, the rest to validate")
    parser.add_argument("--keyframes", type=int, default=4, help="two a second, of each town")
    parser.add_argument("--image-size", type=int, nargs=2, default=(225, 400), metavar=("H", "W"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    towns = {"train": arguments.towns // 2, "val": arguments.towns - arguments.towns // 2}
    changes = {"towns": towns, "keyframes": arguments.keyframes, "image_size": tuple(arguments.image_size)}
    write_dataset(arguments.root, PRESETS["tiny"].model_copy(update={**changes, "seed": arguments.seed}))

    dataset = NuScenesDataset(arguments.root)  # nuscenes-devkit reads it as well
    for scene in dataset.scenes:
        found = Counter(element.label.value for token in scene.sample_tokens for element in dataset.elements(token))
        counts = ", ".join(f"{count} {label}" for label, count in sorted(found.items()))
        print(f"{scene.name} in {scene.location}: {len(scene.sample_tokens)} keyframes with {counts}")
    print(f"{len(dataset)} keyframes → {arguments.root}")


if __name__ == "__main__":
    main()
