"""Pretrained weights of a backbone's trunk: from the hub, a package, a file, or explicitly none. Strict, and reported.

Of files only safetensors are read (`models/weight_files.py`).
"""

import sys
from pathlib import Path

from torch import Tensor, nn

from hdmap_core.errors import CheckpointError
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.backbones.packaged_weights import PACKAGED, read_packaged
from hdmap_core.models.state import listed, misfit
from hdmap_core.models.weight_files import read_weights

CONTACT_TIMEOUT_S = 10.0


def load_pretrained(backbone: ImageBackbone, source: str | Path) -> str:
    """Fills the trunk with pretrained weights; the neck stays as it is.

    A file may be in timm's own layout or in one that timm converts for this network (e.g. DINOv2's and Swin's
    original releases). Position embeddings and Swin's window tables are resized to the trunk's grid. Left out are the
    classifier, parts that the backbone has cut off, and what timm's conversion drops; the report names each. Anything
    else that is missing, unknown or of another shape is an error, and then the trunk stays as it was.

    timm resizes position embeddings once, here (bicubic, antialiased); MapFM keeps DINOv2's 37 x 37 and resizes them
    in every forward pass (bicubic, not antialiased).

    Args:
        backbone: whose trunk is filled; tuning modes stay as they are.
        source: "hub" (download, or the hub's local cache), "random" (leave the trunk random), the name of weights that
            come as a package (`packaged_weights.PACKAGED`), or a .safetensors file.

    Returns:
        One line that says what was loaded, resized and left out.

    Raises:
        CheckpointError: if the hub cannot be reached, or the file is missing, damaged, a pickle, or does not fit.
        ConfigError, MissingDependencyError: see `read_packaged`.
    """
    name = backbone.config.model
    if source == "random":
        return f"{name}: the trunk starts from random weights, as asked for"
    if source in PACKAGED:
        path, found = read_packaged(str(source), name)
    else:
        path = _download(backbone) if source == "hub" else Path(source)
        found = _read(path)
    converted, notes = _converted(backbone.trunk, found, path)
    expected = backbone.trunk.state_dict()
    classifier = _classifier(backbone.trunk)
    left_out = {"the classifier": classifier, "parts this backbone does without": tuple(backbone.cut_keys)}
    for what, prefixes in left_out.items():
        ignored = [key for key in converted if key not in expected and key.startswith(prefixes)]
        converted = {key: tensor for key, tensor in converted.items() if key not in ignored}
        notes += [f"left out {what}: {listed(ignored)}"] if ignored else []
    # these matter to no batch norm with a fixed momentum
    counters = {key for key in expected.keys() - converted.keys() if key.endswith("num_batches_tracked")}
    if problem := misfit({key: tensor for key, tensor in expected.items() if key not in counters}, converted):
        raise CheckpointError(
            f"{path} does not fit {name} with arguments {backbone.config.arguments}: it {problem}. "
            "Give the weights of this very network in timm's layout"
        )
    backbone.trunk.load_state_dict(converted, strict=not counters)
    parameters = sum(parameter.numel() for parameter in backbone.trunk.parameters()) / 1e6
    return "; ".join([f"{name}: {len(converted)} tensors ({parameters:.2f} M parameters) from {path}", *notes])


def _read(path: Path) -> dict[str, Tensor]:
    metadata, tensors = read_weights(
        path,
        f"give 'hub', 'random', {', '.join(PACKAGED)} or a .safetensors file; convert a pickle that you trust: "
        "safetensors.torch.save_file(torch.load('x.pth', weights_only=True), 'x.safetensors')",
    )
    if "hdmap" in metadata:
        raise CheckpointError(f"{path} is a checkpoint of hdmap_ros, not a backbone's pretrained weights")
    return tensors


def _converted(trunk: nn.Module, found: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The file in the trunk's layout by timm's own conversion of the family, and what that changed."""
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(found), []
    known = trunk.state_dict()
    # Window tables of stages that were cut off have no module to be fitted to.
    given = {key: tensor for key, tensor in found.items() if key in known or not key.endswith("position_bias_table")}
    try:
        converted = convert(dict(given), trunk)
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        raise CheckpointError(
            f"{path} cannot be brought to the layout of {type(trunk).__name__}: {type(error).__name__}: {error}"
        ) from None
    converted |= {key: found[key] for key in found.keys() - given.keys()}
    resized = [
        f"{key} {tuple(found[key].shape)} -> {tuple(tensor.shape)}"
        for key, tensor in converted.items()
        if key in found and tensor.shape != found[key].shape
    ]
    gone, new = sorted(found.keys() - converted.keys()), sorted(converted.keys() - found.keys())
    notes = [f"resized {listed(resized)}"] if resized else []
    notes += [f"timm's conversion renamed {listed(gone)} to {listed(new)}"] if new else []
    notes += [f"timm's conversion dropped {listed(gone)}"] if gone and not new else []
    return converted, notes


def _classifier(trunk: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifier's keys, by timm's record."""
    names = getattr(trunk, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _download(backbone: ImageBackbone) -> Path:
    """The weights' safetensors file, from the hub's local cache or by download."""
    from huggingface_hub import constants, get_session, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    name, record = backbone.config.model, getattr(backbone.trunk, "pretrained_cfg", {})
    repository = record.get("hf_hub_id")
    if not repository:
        raise CheckpointError(f"timm knows no weights of {name!r} on the hub; add a tag to the name, or give a file")
    filename = record.get("hf_hub_filename") or "model.safetensors"
    advice = (
        f"Where there is network, run `hf download {repository} {filename}`, bring the file here and give its path; "
        "or say 'random' to start without pretrained weights"
    )
    try:
        return Path(hf_hub_download(repository, filename, local_files_only=True))
    except (EntryNotFoundError, OSError):
        pass  # not in the cache
    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"weights of {name}: the hub is switched off (HF_HUB_OFFLINE). {advice}")
    try:  # one quick call first: the download itself would retry for half a minute before it says so
        get_session().head(constants.ENDPOINT, timeout=CONTACT_TIMEOUT_S)
    except Exception as error:  # httpx's or requests', by the hub library's version
        raise CheckpointError(f"weights of {name}: the hub cannot be reached ({error}). {advice}") from None
    try:
        return Path(hf_hub_download(repository, filename))
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"weights of {name}: {filename} of {repository} did not arrive: {error}. {advice}"
        ) from None
