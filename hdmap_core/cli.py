"""The command `hdmap`. Every package brings its verbs as an entry point of the group `hdmap.commands`."""

import os
import sys
from typing import TYPE_CHECKING

import hdmap_core
from hdmap_core.errors import HdmapError

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Runs the command line: errors that a user can mend become one line and exit code 2."""
    try:
        command_line()()
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def command_line() -> "typer.Typer":
    """`hdmap` with the verbs of all packages."""
    from importlib.metadata import entry_points

    import typer

    app = typer.Typer(
        name="hdmap",
        help="Online HD maps from surround cameras: make data, train, evaluate, predict, handle bags.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"hdmap {hdmap_core.__version__}")
            raise typer.Exit()

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=print_version, is_eager=True, help="Show it and exit"
        ),
    ) -> None:
        pass

    for entry in sorted(entry_points(group="hdmap.commands"), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def register(app: "typer.Typer") -> None:
    """Adds the core's verbs."""
    from hdmap_core.datasets.frames.cli import app as frames
    from hdmap_core.datasets.sd_cli import sdmap
    from hdmap_core.datasets.show_cli import show
    from hdmap_core.datasets.synthetic.cli import register as register_synth
    from hdmap_core.doctor import doctor
    from hdmap_core.export.cli import export
    from hdmap_core.inference.benchmark_cli import benchmark
    from hdmap_core.inference.cli import predict
    from hdmap_core.info.cli import info
    from hdmap_core.metrics.cli import score
    from hdmap_core.released.cli import import_command
    from hdmap_core.viewer.cli import register as register_view

    register_synth(app)
    app.add_typer(frames, name="frames", rich_help_panel="Data")
    app.command(rich_help_panel="Data")(sdmap)
    app.command(rich_help_panel="Data")(show)
    app.command(rich_help_panel="Models")(score)
    app.command(rich_help_panel="Models")(predict)
    register_view(app)
    app.command("import", rich_help_panel="Models")(import_command)
    app.command(rich_help_panel="Models")(export)
    app.command(rich_help_panel="Models")(benchmark)
    app.command(rich_help_panel="Help")(info)
    app.command(rich_help_panel="Help")(doctor)
