"""Where a drive is shown: in rerun's window, in a browser, or in a file for later."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import typer

from hdmap_core.errors import ConfigError, OutputError
from hdmap_core.files import PART, make_folder
from hdmap_core.geometry import BEVGrid
from hdmap_core.running.interruption import Interrupted
from hdmap_core.viewer.footage import Moment

if TYPE_CHECKING:
    import rerun
    import rerun.blueprint


@dataclass(frozen=True)
class Screen:
    """Where to: a file, a browser, or else a window.

    Attributes:
        save: the file.
        web: a browser.
        port: of the page; the next one is that of the data.
    """

    save: Path | None = None
    web: bool = False
    port: int = 9090


def show(
    moments: Iterator[Moment],
    name: str,
    screen: Screen,
    *,
    region: BEVGrid,
    min_score: float = 0.3,
    lidar: bool = False,
) -> None:
    """Reads moments and shows them while they come; in a browser until Ctrl-C.

    Args:
        moments: at least one.
        name: what is shown.
        screen: where.
        region: that the maps show.
        min_score: predicted elements below it are left out.
        lidar: show points.

    Raises:
        ConfigError: if there is nothing to show, or no screen.
        OutputError: if the file cannot be written or the port is taken.
    """
    import rerun

    from hdmap_core.viewer.blueprint import layout
    from hdmap_core.viewer.recorder import Recorder

    first = next(moments, None)
    if first is None:
        raise ConfigError(f"{name} holds no moment to look at")
    stream = rerun.RecordingStream("hdmap_ros", recording_id=uuid.uuid4())
    with _opened(stream, screen, layout(first, region)):
        stream.send_recording_name(name)
        recorder = Recorder(stream, region, min_score, lidar)
        for moment in chain([first], moments):
            recorder.add(moment)
        recorder.finish()
        stream.flush()
    if screen.save is not None:
        size_mb = screen.save.stat().st_size / 1e6
        typer.echo(f"{screen.save}: {recorder.count} moments, {size_mb:.1f} MB; next: rerun {screen.save}")
    elif screen.web:
        typer.echo(f"all {recorder.count} moments are there; Ctrl-C ends it")
        with suppress(Interrupted):
            while True:
                time.sleep(3600)


@contextmanager
def _opened(stream: "rerun.RecordingStream", screen: Screen, blueprint: "rerun.blueprint.Blueprint") -> Iterator[None]:
    """Leads what is logged to where it is shown. A file appears at the end, whole or not at all."""
    if screen.save is not None:
        part = screen.save.with_name(screen.save.name + PART)
        make_folder(screen.save.parent)
        try:
            with _telling(screen.save):
                stream.save(part, default_blueprint=blueprint)
            yield
            with _telling(screen.save):
                stream.disconnect()
                part.replace(screen.save)
        finally:
            stream.disconnect()
            part.unlink(missing_ok=True)
    elif screen.web:
        _serve(stream, screen.port, blueprint)
        yield
    elif _has_display():
        stream.spawn(default_blueprint=blueprint)
        yield
    else:
        raise ConfigError("there is no display here for rerun's window; give --web, or --save drive.rrd")


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # rerun's own are RuntimeErrors
        raise OutputError(f"cannot write {path}: {error}") from None


def _serve(stream: "rerun.RecordingStream", port: int, blueprint: "rerun.blueprint.Blueprint") -> None:
    import rerun

    for wanted in (port, port + 1):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", wanted)) == 0:
                raise OutputError(f"port {wanted} is taken; choose two others that are free by --port")
    source = stream.serve_grpc(grpc_port=port + 1, default_blueprint=blueprint)
    rerun.serve_web_viewer(web_port=port, open_browser=_has_display(), connect_to=source)
    typer.echo(f"http://localhost:{port}/?url={quote(source, safe='')}")


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
