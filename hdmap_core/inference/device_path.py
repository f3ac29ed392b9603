"""The path of a set on a GPU: JPEG files decoded there, inputs made there, and what tracing reads copied back at once.

Nothing waits for the device but two places: torchvision's decoder inside itself, on a stream of its own, and `read`,
once per set. Off CUDA all of it runs as well, which is how its results are tested; the device itself never ran it where
this was written (docs/status.md), so it is compared with the CPU's way when a model is loaded (`checked`).
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from importlib import import_module

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.errors import first_line
from hdmap_core.images.decoding import decode_image, is_sound_jpeg, reduction_for
from hdmap_core.inference import device_inputs
from hdmap_core.inference.engine import Engine, input_tensors
from hdmap_core.inference.sample import ring_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.observation import Observation
from hdmap_core.observation.lidar_points import lidar_points
from hdmap_core.preprocess import ImageFit, check_images, ground_grid, preprocess, with_points_and_roads

_CHECKED_SIZE = (180, 320)
_DECODERS_APART = 2.0
"""Mean over a smooth picture, in steps of 255: nvJPEG enlarges colours in another way than libjpeg."""
_INPUTS_APART = 0.5
"""Mean, of inputs in steps of 255: OpenCV before 5 reads between pixels at 32nds of a pixel."""
_log = logging.getLogger(__name__)


class DevicePath:
    """Decoding and inputs on one device.

    Args:
        device: a CUDA device, or the CPU to see what it does.
        model: says which inputs are made.
    """

    def __init__(self, device: torch.device, model: ModelConfig) -> None:
        self.device, self._model = device, model
        self._files = import_module("torchvision.io")  # takes seconds, which a model that runs on the CPU does without
        # Pictures get memory of a stream of its own: the decoder writes into it before the stream of the network, which
        # may have used that memory for an earlier set, has come so far.
        self._decoding = torch.cuda.Stream(device) if device.type == "cuda" else None

    @classmethod
    def checked(cls, engine: Engine) -> "DevicePath | None":
        """That of an engine on CUDA which takes tensors there; None of others, or if it does not as the CPU does."""
        if not engine.device.startswith("cuda") or engine.name.startswith("onnxruntime"):
            return None
        index = torch.device(engine.device).index
        device = torch.device("cuda", torch.cuda.current_device() if index is None else index)
        try:
            path = cls(device, engine.source.config.model)
            problem = path.problem()
        except Exception as error:  # whatever CUDA and nvJPEG raise
            problem = first_line(error)
        if problem:
            _log.warning("images are decoded and prepared on the CPU, as %s cannot: %s", device, problem)
            return None
        return path

    def problem(self) -> str:
        """What it does otherwise than the CPU, on a drawn set; empty if nothing."""
        rows, columns = np.indices(_CHECKED_SIZE)
        smooth = np.stack([rows + 20, columns // 2, 200 - rows // 2 - columns // 4], axis=-1).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", smooth)[1].tobytes()
        backbone = self._model.image_backbone
        names = (backbone.cameras if backbone else ()) or ("FRONT", "BACK")
        found = self.decode(dict.fromkeys(names, jpeg))
        if found.keys() != set(names):
            return "its JPEG decoder refuses a plain picture"
        apart = np.abs(found[names[0]].cpu().numpy().astype(float) - decode_image(jpeg, "check")).mean()
        if apart > _DECODERS_APART:
            return f"its JPEG decoder is off by {apart:.1f} steps of 255 on the mean"
        seen = ring_observation(names, smooth)
        wanted, made = input_tensors(preprocess(seen, self._model)), input_tensors(self.inputs(seen))
        for name, value in wanted.items():
            apart = float((made[name].cpu().double() - value.double()).abs().mean())
            if apart > _INPUTS_APART:
                return f"its inputs {name} are off by {apart:.2g} on the mean"
        return ""

    def decode(
        self,
        files: Mapping[str, bytes],
        enough: Mapping[str, tuple[int, int]] | None = None,
        pool: Executor | None = None,
    ) -> dict[str, Tensor]:
        """Pictures of JPEG files, all in one call.

        Only files without any fault reach the device. What is left out, damaged, of unusual colours, or refused by the
        device, is for `decode_image`, which tells what is wrong with it, or knows it.

        Args:
            files: JPEG or anything else, by camera.
            enough: (H, W) of the picture that will do, by camera; of others all of it.
            pool: threads that share the files.

        Returns:
            (H, W, 3) uint8 RGB on the device, by camera.

        Raises:
            RuntimeError: of a device that fails as a whole, such as one that is out of memory.
        """
        sound = (pool.map if pool else map)(is_sound_jpeg, files.values())
        names = [name for name, is_sound in zip(files, sound, strict=True) if is_sound]
        encoded = [torch.frombuffer(bytearray(files[name]), dtype=torch.uint8) for name in names]
        try:
            found = dict(zip(names, self._decoded(encoded), strict=True))
        except _RefusedError:  # as a whole, for one of them
            found = {}
            for name, one in zip(names, encoded, strict=True):
                with contextlib.suppress(_RefusedError):
                    found[name] = self._decoded([one])[0]
        wanted = enough or {}
        return {name: _reduced(picture, wanted.get(name)).permute(1, 2, 0) for name, picture in found.items()}

    def _decoded(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        """(3, H, W) each; `_RefusedError` if one of them cannot be decoded."""
        if not encoded:
            return []
        try:
            with torch.cuda.stream(self._decoding):
                found = self._files.decode_jpeg(list(encoded), mode=self._files.ImageReadMode.RGB, device=self.device)
        except RuntimeError as error:
            if "out of memory" in str(error) or "CUDA" in str(error):
                raise
            raise _RefusedError from error
        if self._decoding is not None:
            for picture in found:  # is kept from the decoder until the network's stream is done with it
                picture.record_stream(torch.cuda.current_stream(self.device))
        return list(found)

    def inputs(self, observation: Observation) -> ModelInput:
        """As `preprocess`, on the device but for what engines look at on the host: projection and camera mask.

        Args:
            observation: with images on the host, or pictures of `decode`, or some of each.

        Raises:
            ImageError: see `check_images`.
        """
        check_images(observation)
        there = observation.device_images or (None,) * observation.rig.num_cameras
        images = [
            device_inputs.uploaded(image, self.device) if image is not None else picture
            for image, picture in zip(observation.images, there, strict=True)
        ]
        inputs, backbone, model = ModelInput(), self._model.image_backbone, self._model
        if backbone is not None:
            inputs = device_inputs.image_inputs(
                images, observation.rig, backbone.image_size, backbone.cameras, self.device, ImageFit.of(backbone)
            )
        if model.sees_ground:
            inputs.ground = device_inputs.ground_pixels(
                images, observation.rig, ground_grid(model.grid), self.device, observation.relief
            )
        inputs = with_points_and_roads(inputs, lidar_points(observation), observation.sd_lines, model)
        if self.device.type != "cuda":
            return inputs
        fields = input_tensors(inputs).items()  # from pages that may be moved a copy would wait for the stream
        return ModelInput(**{name: value if value.is_cuda else value.pin_memory() for name, value in fields})


class _RefusedError(Exception):
    """A file that the decoder does not take."""


def read(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors on the host: those of a GPU in one piece, for which it is waited once."""
    if not any(tensor.is_cuda for tensor in tensors.values()):
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    packed, places = _packed(tensors)
    host = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(packed.device))
    copied.synchronize()
    return _unpacked(host.numpy().copy(), places)


def _packed(tensors: Mapping[str, Tensor]) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Their bytes one behind the other, those of the largest items first, so that each begins where it may."""
    places = sorted(tensors.items(), key=lambda place: -place[1].element_size())
    return torch.cat([tensor.contiguous().flatten().view(torch.uint8) for _, tensor in places]), places


def _unpacked(content: np.ndarray, places: Sequence[tuple[str, Tensor]]) -> dict[str, np.ndarray]:
    found, begin = {}, 0
    for name, tensor in places:
        end = begin + tensor.numel() * tensor.element_size()
        found[name] = content[begin:end].view(np.dtype(str(tensor.dtype).removeprefix("torch."))).reshape(tensor.shape)
        begin = end
    return found


def _reduced(picture: Tensor, enough: tuple[int, int] | None) -> Tensor:
    height, width = picture.shape[1:]
    times = reduction_for((height, width), enough) if enough else 1
    return picture if times == 1 else (F.avg_pool2d(picture[None].float(), times)[0] + 0.5).to(torch.uint8)
