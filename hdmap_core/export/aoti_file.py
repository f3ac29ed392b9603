"""A package of native code by torch.export and AOTInductor: C++, or Triton on CUDA, compiled for this machine."""

import tempfile
import zipfile
from pathlib import Path

import torch

from hdmap_core.errors import ConfigError, first_line
from hdmap_core.export.quiet import quiet
from hdmap_core.export.reference import Reference
from hdmap_core.inference.aoti_engine import SUFFIX, AotiEngine, made_for
from hdmap_core.inference.compiled_engine import check_compiler
from hdmap_core.inference.engine import ByTensors, input_tensors
from hdmap_core.inference.sealed_file import ROOT, sealed
from hdmap_core.inference.setuptools_import import import_setuptools

_SETTINGS = {"cpp.dynamic_threads": True}  # as many threads as PyTorch has when it runs, not when it was compiled


def export_aoti(reference: Reference, out: Path) -> float:
    """Writes the package once it has agreed with PyTorch.

    Args:
        reference: what is exported; the package is compiled for its device.
        out: the `.pt2`.

    Returns:
        How far they lie apart, see `Reference.compare`.

    Raises:
        ConfigError: if the model cannot be exported or compiled, or the package disagrees; nothing is written then.
        OutputError: if the file cannot be written.
    """
    reference.refuse_points("a package")
    check_compiler()
    device = torch.device(reference.engine.device)
    inputs = {name: value.to(device) for name, value in input_tensors(reference.sample.inputs).items()}
    module = ByTensors(reference.engine.model, tuple(inputs)).eval()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{ROOT.rstrip('/')}{SUFFIX}"
        try:
            import_setuptools()
            with quiet(), torch.no_grad():
                program = torch.export.export(module, tuple(inputs.values()))
                torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=_SETTINGS)
        except Exception as error:  # whatever torch.export, Inductor or a compiler raise
            raise ConfigError(
                f"{reference.model.name} cannot be compiled by AOTInductor here ({first_line(error)}); run the "
                "checkpoint itself"
            ) from error
        with zipfile.ZipFile(package) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    content = sealed(members, reference.header(), made_for(device))
    return reference.write_compared(content, out, lambda path: AotiEngine(path, str(device), check=False))
