"""The progress bar of verbs that take a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(verb: str) -> Iterator[tuple[Callable[[int, int | None], None], Callable[[str], None]]]:
    """What moves a bar on stderr (done, and in all or None), and what writes a warning above it.

    Args:
        verb: what is going on, before the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None)

        def warn(message: str) -> None:
            bar.console.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True)

        yield lambda done, total: bar.update(task, completed=done, total=total), warn
