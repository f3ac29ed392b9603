"""`hdmap sdmap`: OpenStreetMap roads as the SD maps of a nuScenes folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hdmap_core.errors import ConfigError, DatasetError, OutputError

if TYPE_CHECKING:
    import numpy as np

    from hdmap_core.datasets.osm.picture import CityBackground


def sdmap(
    osm: Annotated[Path, typer.Argument(help="Folder with <city>.shp, .shx, .dbf: lines in WGS-84 degrees.")],
    dataroot: Annotated[Path | None, typer.Argument(help="A nuScenes folder, to write to and to draw over.")] = None,
    cities: Annotated[str, typer.Option(help="Only these, separated by commas; by default all that OSM has.")] = "",
    roads: Annotated[str, typer.Option(help="cars, published (P-MapNet's) or all (footways too).")] = "cars",
    version: Annotated[
        str | None, typer.Option(help="Only where v1.0-mini, v1.0-trainval ... drove; all versions by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write here instead of DATAROOT/maps/sd.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Also replace SD maps that are not from OpenStreetMap.")] = False,
) -> None:
    """Make SD maps from OpenStreetMap: <city>.geojson in metres of the city's map frame, and a picture of each.

    Example: hdmap sdmap data/osm /data/nuscenes

    The picture shows the roads over the HD map and where the cars drove, as far as DATAROOT has that, and how much of
    one lies on the other. The maps are under the Open Database License: name OpenStreetMap where you pass them on.
    """
    from hdmap_core.datasets.osm.coverage import coverage
    from hdmap_core.datasets.osm.picture import draw_city
    from hdmap_core.datasets.osm.roads import chosen, read_roads, write_sd_map
    from hdmap_core.files import check_folder
    from hdmap_core.running.progress import progress_bar
    from hdmap_core.viz import write_picture

    target = _target(dataroot, out)
    check_folder(target)
    names = _cities(osm, cities)
    chosen((), roads)  # a wrong choice is said before anything is read
    for name in names:
        _keep_others(target / f"{name}.geojson", overwrite)
    lines = []
    with progress_bar("drawing cities") as (progress, _):
        progress(0, len(names))
        driven = {} if dataroot is None else _driven(dataroot, version)
        for number, name in enumerate(names, start=1):
            found = read_roads(osm, name)
            kept = chosen(found, roads)
            if not kept:
                raise DatasetError(
                    f"{osm / name}.shp: none of its {len(found)} lines around {name} is of the choice {roads!r}; try "
                    "--roads all, or leave the city out with --cities"
                )
            background = _background(dataroot, driven, name)
            figures = coverage([road.line for road in kept], background.drivable, background.driven)
            write_sd_map(target / f"{name}.geojson", name, kept, roads)
            write_picture(target / f"{name}.png", draw_city(name, kept, background, figures))
            lines.append(f"{name}: {len(kept)} of {len(found)} lines, {', '.join(figures.notes)}")
            progress(number, len(names))
    for line in lines:
        typer.echo(line)
    typer.echo(f"→ {target}")


def _target(dataroot: Path | None, out: Path | None) -> Path:
    """Where the maps go."""
    from hdmap_core.datasets.nuscenes.tables import VERSIONS

    if dataroot is not None and not any((dataroot / name).is_dir() for name in ("maps", *VERSIONS)):
        raise DatasetError(
            f"{dataroot} is not a nuScenes folder: it holds neither maps/ nor {', '.join(VERSIONS)}; give another, or "
            "only -o"
        )
    if out is None and dataroot is None:
        raise ConfigError("where to? give a nuScenes folder after the OpenStreetMap folder, or -o FOLDER")
    return out or Path(str(dataroot)) / "maps" / "sd"


def _cities(osm: Path, wanted: str) -> list[str]:
    from hdmap_core.datasets.nuscenes.cities import CITIES
    from hdmap_core.datasets.osm.roads import origin_of

    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        origin_of(name)
    if not osm.is_dir():
        raise DatasetError(f"{osm}: no such folder; give the folder with <city>.shp")
    names = names or [city for city in CITIES if (osm / f"{city}.shp").is_file()]
    if not names:
        raise DatasetError(f"{osm} holds the shapefile of no city; expected {', '.join(f'{c}.shp' for c in CITIES)}")
    return names


def _keep_others(path: Path, overwrite: bool) -> None:
    """Refuses to replace a map that is not from OpenStreetMap: a synthetic town's roads are not to be had elsewhere."""
    from hdmap_core.datasets.osm.roads import ATTRIBUTION

    if overwrite or not path.is_file():
        return
    try:
        is_ours = ATTRIBUTION in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        is_ours = False
    if not is_ours:
        raise OutputError(
            f"{path} is there and not from OpenStreetMap (a synthetic folder has its own); choose another folder with "
            "-o, or --overwrite it"
        )


def _driven(dataroot: Path, version: str | None) -> dict[str, "np.ndarray"]:
    """City -> (N, 2) positions of the keyframes, of this version or all that the folder has, each keyframe once."""
    import numpy as np

    from hdmap_core.datasets.nuscenes import NuScenesDataset
    from hdmap_core.datasets.nuscenes.tables import VERSIONS

    versions = [version] if version else [name for name in VERSIONS if (dataroot / name).is_dir()]
    found: dict[str, dict[str, np.ndarray]] = {}
    for dataset in (NuScenesDataset(dataroot, name) for name in versions):
        for token in dataset.tokens:
            found.setdefault(dataset.scene_of(token).location, {})[token] = dataset.map_from_ego(token)[:2, 3]
    return {city: np.array(list(positions.values())) for city, positions in found.items()}


def _background(dataroot: Path | None, driven: "dict[str, np.ndarray]", city: str) -> "CityBackground":
    import numpy as np

    from hdmap_core.datasets.nuscenes.map_layers import LINE_LAYERS, MapLayers
    from hdmap_core.datasets.osm.picture import CityBackground

    positions = driven.get(city, np.zeros((0, 2)))
    path = (dataroot or Path()) / "maps" / "expansion" / f"{city}.json"
    if dataroot is None or not path.is_file():
        return CityBackground(driven=positions)
    layers = MapLayers(path)
    dividers = np.concatenate([layers.lines(layer) for layer in LINE_LAYERS])
    return CityBackground(list(layers.polygons("drivable_area", repair=True)), list(dividers), positions)
