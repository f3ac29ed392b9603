"""Pictures of a map: over the camera images, over the ground seen from above, and of a whole drive as a film."""

from hdmap_core.viz.camera_mosaic import draw_cameras
from hdmap_core.viz.map_sheet import draw_map
from hdmap_core.viz.picture_file import write_picture
from hdmap_core.viz.strokes import COLOURS
from hdmap_core.viz.top_view import draw_bev

__all__ = ["COLOURS", "draw_bev", "draw_cameras", "draw_map", "write_picture"]
