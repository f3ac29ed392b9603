"""`hdmap` that presses Ctrl-C itself, in an exact moment: `python hdmap_with_ctrl_c.py MOMENT ARGUMENTS ...`.

A moment is `import MODULE`, just before that module is loaded; or `MODULE:FUNCTION`, as the function is called, or
`MODULE:FUNCTION+SECONDS`, so long after. As a terminal does it, the signal goes to the whole process group.
"""

import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

from hdmap_core.__main__ import main


def press() -> None:
    os.killpg(0, signal.SIGINT)


class Import:
    """First among Python's finders, where it finds nothing but the moment."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            press()


def press_in_call(module: str, function: str, seconds: float) -> None:
    owner: Any = import_module(module)
    *outer, name = function.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original, pressed = getattr(owner, name), threading.Event()

    def call(*arguments: Any, **options: Any) -> Any:
        if not pressed.is_set():
            pressed.set()
            if seconds:
                threading.Timer(seconds, press).start()
            else:
                press()
        return original(*arguments, **options)

    setattr(owner, name, call)


if __name__ == "__main__":  # workers that are spawned import this file
    moment = sys.argv.pop(1)
    if moment.startswith("import "):
        sys.meta_path.insert(0, Import(moment.removeprefix("import ")))
    else:
        place, _, seconds = moment.partition("+")
        press_in_call(*place.split(":"), float(seconds or 0))
    main()
