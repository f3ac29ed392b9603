"""When videos of one drive began, by what their microphones heard: the lag at which two sound tracks fit each other.

GCC-PHAT (Knapp and Carter, "The generalized correlation method for estimation of time delay", 1976): the spectra are
multiplied and only the phases kept, so that wind in one microphone, a rattle or another tone count little.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import fft

from hdmap_core.datasets.videos import opened_video
from hdmap_core.errors import DatasetError

RATE_HZ = 4000
LONGEST_S = 600
"""So much of each video is listened to, from its beginning."""
_LENGTHS_S = (180, 60, LONGEST_S)  # in a longer one clocks that drift apart blur the peak, in a shorter one it may lack
_ECHO_S = 0.3  # within it a second peak is an echo of the first
_DISTINCT = 1.5  # times the next peak; tracks that have nothing in common reach 1.2
_JITTER = RATE_HZ // 50  # samples: stamps of whole milliseconds are no gap in the sound
_STEP_NS = 100_000  # that a start is told in


def starts_by_sound(videos: Mapping[str, Path]) -> tuple[dict[str, int], float]:
    """When each video begins after the earliest, and how distinctly they fit: the least of peak over next peak.

    Args:
        videos: camera -> file; each is held against the first.

    Returns:
        Camera -> nanoseconds, a whole number of tenths of a millisecond; the ratio, 1.5 or more.

    Raises:
        DatasetError: if one has no sound, or sounds like no moment of the first.
        ImageError, MissingDependencyError: as `opened_video`.
    """
    first, *others = videos
    reference = sound_of(videos[first])
    later_s, least = {first: 0.0}, np.inf
    for name in others:
        heard = sound_of(videos[name])
        for seconds in _LENGTHS_S:
            lag_s, ratio = lag_of(heard[: seconds * RATE_HZ], reference[: seconds * RATE_HZ])
            if ratio >= _DISTINCT:
                break
        else:
            raise DatasetError(
                f"{videos[name]} cannot be aligned with {videos[first]}: their sound fits at no moment distinctly (the "
                f"best is {ratio:.2f} times the next, {_DISTINCT} are needed); say by --start {name}=SECONDS when it "
                "begins"
            )
        later_s[name], least = lag_s, min(least, ratio)
    steps = {name: round(1e9 * seconds / _STEP_NS) for name, seconds in later_s.items()}
    return {name: (step - min(steps.values())) * _STEP_NS for name, step in steps.items()}, float(least)


def sound_of(path: Path) -> np.ndarray:
    """(N,) float32 samples at `RATE_HZ` from the video's first picture on, all channels mixed.

    Raises:
        DatasetError: if there is no sound.
        ImageError, MissingDependencyError: as `opened_video`.
    """
    with opened_video(path) as (container, video):
        import av

        if not container.streams.audio:
            raise DatasetError(f"{path} has no sound to align it by; say by --start CAMERA=SECONDS when it begins")
        beginning = float((video.start_time or 0) * video.time_base)
        heard = np.zeros(LONGEST_S * RATE_HZ, np.float32)
        end: int | None = None
        resampler = av.AudioResampler("flt", "mono", RATE_HZ)
        for frame in container.decode(container.streams.audio[0]):
            for part in resampler.resample(frame):
                samples, at = part.to_ndarray()[0], round(((part.time or 0.0) - beginning) * RATE_HZ)
                at = end if end is not None and abs(at - end) < _JITTER else at
                end = at + len(samples)
                samples = samples[max(0, -at) : max(0, len(heard) - at)]
                heard[max(0, at) :][: len(samples)] = samples
            if end is not None and end >= len(heard):
                break
    if not np.any(heard):
        raise DatasetError(f"{path} is silent; say by --start CAMERA=SECONDS when it begins")
    return heard[: max(0, end or 0)]


def lag_of(heard: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """How much later a track begins than the reference, and how distinctly.

    Args:
        heard: (N,) samples.
        reference: (M,) samples.

    Returns:
        Seconds; the highest peak over the next that is no echo of it.
    """
    count = fft.next_fast_len(len(heard) + len(reference), real=True)
    product = fft.rfft(reference, count) * np.conj(fft.rfft(heard, count))
    size = np.abs(product)
    fits = fft.irfft(product / (size + 1e-9 * size.max() + np.finfo(np.float32).tiny), count)
    best = int(np.argmax(fits))
    others = np.roll(fits, -best)[round(_ECHO_S * RATE_HZ) : -round(_ECHO_S * RATE_HZ)]
    after = best if best < len(reference) else best - count
    ratio = fits[best] / max(others.max(initial=0.0), np.finfo(np.float32).tiny) if fits[best] > 0 else 0.0
    return after / RATE_HZ, float(ratio)
