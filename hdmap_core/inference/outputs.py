"""What `hdmap predict` writes: of one frame a picture, elements or GeoJSON; of a drive also a film and a fused map."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.exchange.map_file import SUFFIXES as MAPS
from hdmap_core.exchange.map_file import write_map
from hdmap_core.files import check_file
from hdmap_core.inference.prediction import ELEMENTS, PICTURES
from hdmap_core.inference.predictor import Predictor
from hdmap_core.observation import Observation
from hdmap_core.recordings.recording import Recording
from hdmap_core.viz.drive_film import DriveFilm
from hdmap_core.viz.film_file import FILMS, Film, check_film, open_film
from hdmap_core.viz.film_sheet import FilmSheet

SUFFIXES = (*PICTURES, *ELEMENTS, *MAPS, *FILMS)


def check_outputs(paths: Sequence[Path]) -> None:
    """Whether all could be written, asked before long work.

    Raises:
        OutputError: for a suffix that is not one of `SUFFIXES`, or a place that cannot be written.
        MissingDependencyError: if a film needs a package that is not there.
    """
    for path in paths:
        check_file(path, SUFFIXES)
        if path.suffix.lower() in FILMS:
            check_film(path)


@dataclass(frozen=True)
class DriveReport:
    """What became of a drive.

    Attributes:
        frames: that were predicted.
        seconds: from the first to the last.
        elements: of all frames, of any score.
        notes: what the user should know of the files.
    """

    frames: int
    seconds: float
    elements: int
    notes: list[str] = field(default_factory=list)


def predict_drive(
    predictor: Predictor,
    recording: Recording,
    outputs: Sequence[Path],
    min_score: float,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> DriveReport:
    """Predicts every frame of a recording and writes: its first frame as a picture, elements frame by frame, the map
    of the drive as GeoJSON or for Lanelet2, a film.

    Args:
        predictor: the model.
        recording: read once.
        outputs: whose suffixes are among `SUFFIXES`.
        min_score: elements with a lower score are not drawn.
        progress: called with frames done and in all, where that is known.

    Raises:
        OutputError: if a map is wanted of a drive whose poses are not known, or a file cannot be written.
        HdmapError: if a frame cannot be read or predicted.
    """
    kinds = (PICTURES, ELEMENTS, MAPS, FILMS)
    of_kind = {kind: [path for path in outputs if path.suffix.lower() in kind] for kind in kinds}
    films = of_kind[FILMS]
    frames = iter(recording.frames)
    first = next(frames, None)
    if first is None:
        raise DatasetError(f"{recording.name} has no frames to predict")
    if of_kind[MAPS] and first.map_from_ego is None:
        raise OutputError(
            f"cannot write {of_kind[MAPS][0]}: the car's poses are not known, and without them there is no map of the "
            "drive; --sample 0 writes that of one frame, .jsonl those of all"
        )
    info = predictor.info
    sheet = FilmSheet(
        f"hdmap_ros   {recording.name}",
        info.grid,
        recording.way,
        recording.true_map() if films and recording.true_map is not None else None,
    )
    maker = DriveFilm(sheet, info.classes, info.grid, min_score)
    found: dict[str, list[MapElement]] = {}
    last = first
    with ExitStack() as stack:
        open_films = [stack.enter_context(open_film(path)) for path in films]
        for number, observation in enumerate(chain([first], frames), start=1):
            prediction = predictor.predict(observation)
            found[_unused(observation.token, found)] = prediction.elements
            truth = recording.truth(observation.token) if films or (number == 1 and of_kind[PICTURES]) else None
            if number == 1:
                for path in of_kind[PICTURES]:
                    prediction.save(path, observation, truth, min_score)
            if films:
                clock = _clock(observation, first, number, recording.count)
                facts = [f"network {prediction.timings_ms['network']:.0f} ms", info.model_id]
                picture = maker.draw(observation, prediction.elements, truth, clock, facts)
                for film in open_films:
                    film.add(picture, observation.stamp_ns)
            elif of_kind[MAPS]:
                maker.fuse(observation, prediction.elements)
            last = observation
            progress(number, recording.count)
    notes = [note for film, path in zip(open_films, films, strict=True) for note in _notes(film, path)]
    for path in of_kind[ELEMENTS]:
        write_elements(path, found)
    for path in of_kind[MAPS]:
        _write_fused(path, maker, recording, last.stamp_ns)
    seconds = (last.stamp_ns - first.stamp_ns) * 1e-9
    return DriveReport(len(found), seconds, sum(map(len, found.values())), notes)


def _write_fused(path: Path, maker: DriveFilm, recording: Recording, stamp_ns: int) -> None:
    local_map = maker.drive.local_map
    assert local_map is not None
    write_map(path, local_map.elements(), local_map.fixed_from_map, "map", stamp_ns, recording.origin)


def _unused(token: str, found: dict[str, list[MapElement]]) -> str:
    number, name = 1, token
    while name in found:  # a bag that began anew
        number += 1
        name = f"{token}#{number}"
    return name


def _clock(observation: Observation, first: Observation, number: int, count: int | None) -> str:
    seconds = (observation.stamp_ns - first.stamp_ns) * 1e-9
    return f"{seconds:.1f} s   frame {number}" + (f" of {count}" if count else "")


def _notes(film: Film, path: Path) -> list[str]:
    faster = [f"{path} plays {film.speed:.3g} times as fast as the drive was"] if film.speed > 1 else []
    return faster + ([f"{path}: {film.note}"] if film.note else [])
