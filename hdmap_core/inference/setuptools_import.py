"""setuptools, which PyTorch's compilers import, where it would not let itself be imported."""

import importlib
import os
import sys
import warnings
from contextlib import suppress

_SETTING = "SETUPTOOLS_USE_DISTUTILS"


def import_setuptools() -> None:
    """Imports it with the distutils of Python before 3.12.

    In its own way it fails (AssertionError) once something in the process has looked for pip, as IPython and
    huggingface_hub do. From Python 3.12 on there is no other distutils, and no such fault.
    """
    if sys.version_info >= (3, 12):
        return
    before = os.environ.get(_SETTING)
    os.environ[_SETTING] = "stdlib"
    try:
        with warnings.catch_warnings(), suppress(ImportError):
            warnings.simplefilter("ignore")  # its advice against this
            importlib.import_module("setuptools")
    finally:
        if before is None:
            del os.environ[_SETTING]
        else:
            os.environ[_SETTING] = before
