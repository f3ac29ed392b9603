"""The command `hdmap`, also `python -m hdmap_core`: says what is missing where `hdmap_core.cli` cannot be imported."""

from hdmap_core.required_packages import run_or_tell


def main() -> None:
    """Runs the command line."""

    def run() -> None:
        from hdmap_core.cli import main as command_line

        command_line()

    run_or_tell(run)


if __name__ == "__main__":
    main()
