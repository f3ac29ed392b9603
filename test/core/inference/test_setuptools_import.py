import subprocess
import sys


def test_compilers_are_there_after_something_has_looked_for_pip() -> None:
    program = (
        "import importlib.util\n"
        "importlib.util.find_spec('pip')\n"
        "from hdmap_core.inference.setuptools_import import import_setuptools\n"
        "import_setuptools()\n"
        "import torch.utils.cpp_extension\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "distutils" not in done.stderr, done.stderr
