"""The features of a GeoJSON file as shapes in metres of a map frame, whether it holds metres or degrees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from hdmap_core.errors import DatasetError
from hdmap_core.geometry.map_origin import MapOrigin


def read_features(path: str | Path, origin: MapOrigin | None) -> list[tuple[int, dict[str, Any], shapely.Geometry]]:
    """Number from 1, feature, and 2-D shape in metres of each feature that has a geometry.

    Args:
        path: the file.
        origin: where the map frame lies on the earth, if it is known.

    Raises:
        DatasetError: naming the file, and the feature, that cannot be read; for degrees without an origin.
    """
    try:
        content = json.loads(Path(path).read_bytes().decode("utf-8-sig"))
        features = content["features"]
        found = [
            (number, feature, shapely.force_2d(shapely.geometry.shape(feature["geometry"])))
            for number, feature in enumerate(features, start=1)
            if feature["geometry"] is not None
        ]
    except OSError as error:
        raise DatasetError(f"cannot read the map {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DatasetError(f"{path}: not a GeoJSON FeatureCollection ({error!r:.200})") from None
    except shapely.errors.ShapelyError as error:
        raise DatasetError(f"{path}: not GeoJSON geometry ({error})") from None
    points = shapely.get_coordinates([shape for _, _, shape in found])
    for number, _, shape in found:
        if not np.isfinite(shapely.get_coordinates(shape)).all():
            raise DatasetError(f"{path}: feature {number} has a coordinate that is not finite")
    # A map measures many metres, and less than one degree.
    if not len(points) or not 0.0 < np.ptp(points, axis=0).max() < 1.0:
        return found
    if origin is None:
        raise DatasetError(
            f"{path}: holds longitudes and latitudes; give the scene a 'map_origin' (in a frames folder), or the map "
            "in metres of the map frame"
        )
    return [(number, feature, shapely.transform(shape, origin.metres)) for number, feature, shape in found]
