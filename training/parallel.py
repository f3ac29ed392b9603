"""Runs that began before the move still look here; not in the repository."""

from hdmap_core.parallel import *  # noqa: F403
from hdmap_core.parallel import map_scenes, one_thread, ray_has_gpus  # noqa: F401
