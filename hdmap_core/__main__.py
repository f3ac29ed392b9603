"""The command `hdmap`, also `python -m hdmap_core`: says what is missing where `hdmap_core.cli` cannot be imported."""

from hdmap_core.running.interruption import one_line_on_ctrl_c


def main() -> None:
    """Runs the command line."""

    def run() -> None:
        from hdmap_core import cli

        cli.main()

    with one_line_on_ctrl_c():  # before anything is imported or looked for that takes time
        from hdmap_core.required_packages import run_or_tell

        run_or_tell(run)


if __name__ == "__main__":
    main()
