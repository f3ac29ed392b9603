"""What a person sees while a run goes on: one line that moves, or one line per log where nobody watches."""

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import Self


class Watch:
    """Progress of a run.

    Args:
        console: where to.
        first: steps that were done before.
        steps: steps in all.
        shown: False for all processes but the first.
    """

    def __init__(self, console: Console, first: int, steps: int, *, shown: bool) -> None:
        self._console = console
        self._steps = steps
        self._shown = shown
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not shown or not console.is_terminal,
            expand=True,
        )
        self._bar = self._progress.add_task("training", total=steps, completed=first, facts="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def step(self, step: int, numbers: Mapping[str, float], *, best: str, log: bool) -> None:
        """After each step: its numbers (`loss`, `lr`, `samples_per_s`) and the best validation, in words."""
        facts = f"loss {numbers['loss']:.3f}  lr {numbers['lr']:.1e}  {numbers['samples_per_s']:.1f}/s"
        facts += f"  {best}" if best else ""
        self._progress.update(self._bar, completed=step, facts=facts)
        if log and self._shown and not self._console.is_terminal:
            self._console.print(f"step {step}/{self._steps}  {facts}", highlight=False)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._shown:
            self._console.print(text, highlight=False, soft_wrap=True)  # commands to copy
