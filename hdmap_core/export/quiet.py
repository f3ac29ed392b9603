"""Keeps exporters from the terminal: their progress and advice are for their own developers."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_TALKATIVE = (
    "",  # ONNX Runtime's quantiser writes to the root
    *("onnxscript", "onnx_ir", "torch", "torch.onnx", "torch._inductor", "torch.utils.cpp_extension"),
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing printed, no warnings, of their logs errors alone."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
