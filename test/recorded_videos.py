"""Videos as cameras of a drive record them, written by PyAV: lossless pictures at any times, with sound."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SOUND_HZ = 48_000


def write_recording(
    path: Path,
    pictures: Iterable[tuple[float, np.ndarray]],
    sound: np.ndarray | None = None,
    created: str | None = None,
    rate: int = 10,
    sound_hz: int = SOUND_HZ,
) -> Path:
    """A Matroska file of FFV1 and PCM, or an MP4 of H.264 and AAC.

    Args:
        path: whose suffix says which.
        pictures: seconds since the beginning and (H, W, 3) uint8 each, rising.
        sound: (N,) samples in -1 to 1 from the beginning on.
        created: what the file says of when it began.
        rate: of the pictures, as the file says.
        sound_hz: of the samples.
    """
    codec, pixels, audio = ("libx264", "yuv420p", "aac") if path.suffix == ".mp4" else ("ffv1", "bgr0", "pcm_s16le")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if created is not None:
            container.metadata["creation_time"] = created
        pictures = list(pictures)
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0][1].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        track = None if sound is None else container.add_stream(audio, rate=sound_hz, layout="mono")
        for seconds, image in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 1000), round(1000 * seconds)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None and sound is not None:
            samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
            for begin in range(0, len(samples), 1024):
                frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = sound_hz, Fraction(1, sound_hz), begin
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def street_sound(seconds: float, claps: Iterable[float] = (), seed: int = 0, hz: int = SOUND_HZ) -> np.ndarray:
    """(N,) samples of a quiet hiss that swells, and of claps at these times."""
    rng, times = np.random.default_rng(seed), np.arange(round(seconds * hz)) / hz
    sound = 0.02 * rng.normal(size=len(times)) * (1.5 + np.sin(times))
    for clap in claps:
        begin = round(clap * hz)
        burst = rng.normal(size=min(hz // 5, len(times) - begin))
        sound[begin : begin + len(burst)] += 0.3 * burst * np.exp(-np.arange(len(burst)) / hz * 30)
    return sound
