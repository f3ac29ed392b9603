"""AOTInductor: a `.pt2` package of native code that `hdmap export --format aoti` made, run inside PyTorch.

A package is a program. Loading it runs its maker's code with the rights of whoever loads it, as starting an executable
would; nothing that is looked at before can tell whether it is benign. So it is loaded only where its own name is given,
never found beside a checkpoint, and whoever only asks what it is (`hdmap info`) gets its header alone.
"""

import logging
import platform
import re
from pathlib import Path

import torch

from hdmap_core.errors import CheckpointError, ConfigError, first_line
from hdmap_core.inference.engine import EngineName, input_tensors, output_of
from hdmap_core.inference.exported_file import check_sample, read_header
from hdmap_core.inference.fitting_inputs import FittingInputs
from hdmap_core.inference.sealed_file import ROOT, read_seal
from hdmap_core.inference.setuptools_import import import_setuptools
from hdmap_core.model_io import ModelInput, ModelOutput

SUFFIX = ".pt2"
# What PyTorch packs when it compiles. Anything else, such as the pickles that its other packages hold, is not ours.
_MEMBER = re.compile(
    re.escape(ROOT) + r"(archive_format|archive_version|byteorder|\.data/\w+|"
    r"data/aotinductor/model/[\w.-]+\.(so|o|cpp|json|cubin|fatbin|ptx|spv))"
)
_log = logging.getLogger(__name__)


class AotiEngine:
    """A loaded package, checked against its sample.

    Args:
        path: the file.
        device: auto, cpu, cuda or cuda:N; the package was compiled for one of the two kinds.
        why: see `Engine`.
        check: run the sample now; only an export that compares by itself does without.

    Raises:
        CheckpointError: if the file is damaged, foreign, made for another PyTorch, machine or GPU, or disagrees with
            its sample.
        ConfigError: if it was compiled for another device than the one asked for.
    """

    name: EngineName = "aoti"
    precision = "fp32"

    def __init__(self, path: Path, device: str = "auto", why: str = "", *, check: bool = True) -> None:
        seal = read_seal(path)
        if foreign := sorted(name for name in seal.members if not _MEMBER.fullmatch(name)):
            raise CheckpointError(f"{path} is no package that `hdmap export` made: it holds {foreign[0]}")
        kind = seal.made_for.get("device", "cpu")
        if device != "auto" and device.partition(":")[0] != kind:
            raise ConfigError(
                f"{path.name} was compiled for {kind}, not {device}; export it again with --device {device}, or give "
                "the checkpoint"
            )
        self._device = torch.device(kind if device == "auto" else device)
        if problem := _misfit(seal.made_for, self._device):
            raise CheckpointError(f"{path} {problem}; export the checkpoint again here")
        self.source, sample = read_header(seal.text, path)
        self.device, self.why = str(self._device), why
        shapes = {name: tuple(value.shape) for name, value in input_tensors(sample.inputs).items()}
        _log.info("%s holds native code, which runs now with the rights of this process", path)
        try:
            import_setuptools()
            self._run = torch._inductor.aoti_load_package(str(path), device_index=self._device.index or -1)
        except Exception as error:  # whatever the loader raises, such as of a /tmp from which nothing may be run
            raise CheckpointError(
                f"{path} cannot be loaded: {first_line(error)}; export the checkpoint again here"
            ) from None
        self._outputs = list(sample.values)
        self._inputs = FittingInputs(self.source, shapes, path.name)
        if check:
            check_sample(self, sample, path)

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`; a ConfigError says what of the inputs does not fit."""
        given = self._inputs(inputs)
        with torch.inference_mode():
            found = self._run(*(value.to(self._device, non_blocking=True).contiguous() for value in given.values()))
        return output_of(dict(zip(self._outputs, found, strict=True)))


def made_for(device: torch.device) -> dict[str, str]:
    """What a package that is compiled here asks of the machine that runs it.

    Raises:
        ConfigError: if this PyTorch cannot tell the processor's abilities.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        raise ConfigError(
            f"AOTInductor packages need a newer PyTorch than {torch.__version__}; run the checkpoint itself"
        )
    wanted = {
        "torch": torch.__version__.partition("+")[0],
        "device": device.type,
        "machine": f"{platform.system()} {platform.machine()}",
        # Code is compiled for this very processor (-march=native).
        "cpu": " ".join(sorted(name for name, there in torch.cpu.get_capabilities().items() if there is True)),
    }
    if device.type == "cuda":
        wanted |= {"cuda": str(torch.version.cuda), "gpu": torch.cuda.get_device_name(device)}
    return wanted


def _misfit(wanted: dict[str, str], device: torch.device) -> str:
    """What of this machine is not as the package needs it; empty if nothing."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return "was compiled for CUDA, of which there is no device here"
    here = made_for(device)
    for name, words in {"torch": "PyTorch", "machine": "", "cuda": "CUDA", "gpu": ""}.items():
        if wanted.get(name) != here.get(name):
            return f"was compiled for {words} {wanted.get(name)}, here is {here.get(name)}".replace("  ", " ")
    if lacking := sorted(set(wanted.get("cpu", "").split()) - set(here["cpu"].split())):
        return f"was compiled for a processor with {', '.join(lacking)}, which this one lacks"
    return ""
