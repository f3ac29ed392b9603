"""What the ROS part knows for `hdmap info`: bags."""

from pathlib import Path

from hdmap_core.info import What
from hdmap_ros.bag.layouts import fitting_layouts
from hdmap_ros.bag.storage import is_bag


def describe(path: Path) -> What | None:
    """What a file or folder is, if it is a bag."""
    if not is_bag(path):
        return None
    if (path / "predictions.jsonl").is_file():  # what a replay left
        return None
    from hdmap_ros.bag.mcap import open_bag

    with open_bag(path) as bag:
        facts = {"topics": f"{len(bag.topics)}"}
        facts |= {f"  {topic}": kind for topic, kind in sorted(bag.topics.items())}
        fitting = fitting_layouts(set(bag.topics))
    named = ", ".join(f"{name} ({count} cameras)" for name, count in fitting)
    facts["topic layouts"] = named or "none of config/topics"
    maps = [topic for topic, kind in bag.topics.items() if kind == "hdmap_ros/msg/MapElementArray"]
    if fitting:
        option = "" if fitting[0][0] == "hdmap" else f" --topics {fitting[0][0]}"
        return What("a bag with cameras", facts, (f"hdmap bag replay {path} -o out/{option}", f"hdmap view {path}"))
    if maps:
        return What("a bag with maps", facts, (f"hdmap view {path}", f"ros2 bag play {path}"))
    advice = "hdmap bag replay needs a topic layout for it: copy config/topics/hdmap.yaml and give it with --topics"
    return What("a bag", facts, (advice,))
