"""Weather and time of day of the second edition's scenes, and how each camera of a vehicle copes with them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hdmap_core.datasets.synthetic.presets import Condition
from hdmap_core.datasets.synthetic.sensors.optics import Optics
from hdmap_core.datasets.synthetic.town import RGB, Appearance, TimeOfDay, Weather

Draw = Callable[[np.random.Generator, Appearance], Appearance]
Limits = tuple[float, float]
_SHUTTER_S: dict[TimeOfDay, Limits] = {"day": (0.0, 0.002), "dusk": (0.002, 0.006), "night": (0.004, 0.012)}
_NOISE: dict[TimeOfDay, Limits] = {"day": (0.7, 1.5), "dusk": (1.2, 2.2), "night": (1.6, 3.2)}


def look_of_scene(town: Appearance, seed: int, place: int, condition: Condition | None = None) -> Appearance:
    """The look of a scene: the town's own materials under the weather of that scene.

    Args:
        town: how the town looks whatever the weather.
        seed: of the data set's split; the weather takes turns in an order that follows from it.
        place: number of the scene in its split. Any twelve scenes from a multiple of twelve see every condition.
        condition: what it shall be instead of the one whose turn it is. The sun then stands on the same side in all.
    """
    turn, position = divmod(place, len(_TURNS))
    order = np.random.default_rng([seed, turn, 31]).permutation(len(_TURNS))
    rng = np.random.default_rng([seed, place, 32])
    look = replace(town, sun_azimuth=float(rng.uniform(-np.pi, np.pi)), shades_objects=True)
    return _CONDITIONS[condition or _TURNS[order[position]]](rng, look)


def draw_optics(rng: np.random.Generator, look: Appearance, channels: list[str]) -> dict[str, Optics]:
    """Every camera of one vehicle: of one make, but each with its own faults, dirt and drops."""
    when = look.weather.time_of_day
    tint = rng.normal(0.0, 0.035, 2)
    quality, dirty, blurred = int(rng.integers(72, 96)), rng.random() < 0.3, rng.random() < 0.4
    shutter, noise = float(rng.uniform(*_SHUTTER_S[when])), float(rng.uniform(*_NOISE[when]))
    vignetting = float(rng.uniform(0.05, 0.4))
    found = {}
    for channel in channels:
        red, blue = np.exp(tint + rng.normal(0.0, 0.015, 2))
        found[channel] = Optics(
            exposure_error=float(np.clip(rng.normal(0.0, 0.22), -0.8, 0.7)),
            white_balance=(float(red), 1.0, float(blue)),
            exposure_s=shutter,
            defocus_px=float(rng.uniform(0.5, 1.4)) if blurred else float(rng.uniform(0.0, 0.6)),
            noise=noise * float(rng.uniform(0.9, 1.1)),
            vignetting=vignetting,
            jpeg_quality=int(np.clip(quality + rng.integers(-6, 7), 60, 97)),
            dirt=float(rng.uniform(0.1, 0.9)) if dirty and rng.random() < 0.6 else 0.0,
            drops=look.weather.rain * float(rng.uniform(0.0, 1.0)),
            seed=int(rng.integers(1 << 31)),
        )
    return found


def _grey(value: float, rng: np.random.Generator) -> RGB:
    red, green, blue = (float(c) for c in np.clip(value * (1.0 + rng.normal(0.0, 0.02, 3) + (-0.02, 0.0, 0.02)), 0, 1))
    return red, green, blue


def _clear(rng: np.random.Generator, look: Appearance) -> Appearance:
    blue = float(rng.uniform(0.4, 1.0))
    return replace(
        look,
        sun_strength=float(rng.uniform(0.7, 1.3)),
        sun_elevation=float(np.deg2rad(rng.uniform(22, 80))),
        exposure=float(rng.uniform(0.75, 1.15)),
        haze_per_m=float(rng.choice([0.0, rng.uniform(0.0005, 0.004)])),
        sky=(0.78 - 0.42 * blue, 0.8 - 0.2 * blue, 0.82 + 0.08 * blue),
        shadow_softness_m=float(rng.choice([0.08, rng.uniform(0.1, 0.5)])),
    )


def _low_sun(rng: np.random.Generator, look: Appearance) -> Appearance:
    return replace(
        look,
        sun_strength=float(rng.uniform(0.8, 1.2)),
        sun_elevation=float(np.deg2rad(rng.uniform(5, 20))),
        exposure=float(rng.uniform(0.7, 1.0)),
        haze_per_m=float(rng.uniform(0.001, 0.006)),
        sky=(0.5, 0.6, 0.78),
        horizon=(0.95, 0.85, float(rng.uniform(0.6, 0.8))),
        shadow_softness_m=float(rng.uniform(0.15, 0.5)),
        glare=float(rng.uniform(0.6, 1.0)),
        weather=Weather(words=("low sun",)),
    )


def _overcast(rng: np.random.Generator, look: Appearance) -> Appearance:
    return replace(
        look,
        sun_strength=float(rng.choice([0.0, rng.uniform(0.0, 0.25)])),
        sun_elevation=float(np.deg2rad(rng.uniform(30, 75))),
        exposure=float(rng.uniform(0.65, 1.0)),
        haze_per_m=float(rng.uniform(0.0, 0.006)),
        sky=_grey(float(rng.uniform(0.6, 0.9)), rng),
        shadow_softness_m=float(rng.uniform(0.6, 1.6)),
        weather=Weather(words=("overcast",)),
    )


def _dusk(rng: np.random.Generator, look: Appearance) -> Appearance:
    return replace(
        look,
        sun_strength=0.0,
        exposure=float(rng.uniform(0.28, 0.5)),
        haze_per_m=float(rng.uniform(0.0, 0.006)),
        sky=(0.3, 0.36, float(rng.uniform(0.5, 0.65))),
        horizon=(0.9, float(rng.uniform(0.55, 0.75)), 0.5),
        shadow_softness_m=1.5,
        weather=Weather("dusk", words=("dusk",)),
    )


def _night(rng: np.random.Generator, look: Appearance) -> Appearance:
    glow = float(rng.uniform(0.006, 0.03))
    orange = float(rng.uniform(0.0, 1.0))
    return replace(
        look,
        sun_strength=0.0,
        exposure=float(rng.uniform(0.55, 1.1)),
        haze_per_m=float(rng.uniform(0.0, 0.004)),
        sky=(0.5 * glow, 0.55 * glow, 0.9 * glow),
        horizon=(1.9 * glow, 1.6 * glow, 1.3 * glow),
        lamp=(1.0, 0.92 - 0.24 * orange, 0.84 - 0.48 * orange),
        weather=Weather("night", words=("night",)),
    )


def _wet(rng: np.random.Generator, weather: Weather) -> Weather:
    falls = rng.random() < 0.75
    return replace(
        weather,
        wetness=float(rng.uniform(0.6, 1.0)),
        rain=float(rng.uniform(0.25, 1.0)) if falls else 0.0,
        words=(*weather.words, "rain" if falls else "after rain"),
    )


def _rain(rng: np.random.Generator, look: Appearance) -> Appearance:
    grey = _overcast(rng, look)
    return replace(
        grey,
        exposure=float(rng.uniform(0.5, 0.85)),
        haze_per_m=float(rng.uniform(0.002, 0.011)),
        sky=_grey(float(rng.uniform(0.5, 0.8)), rng),
        weather=_wet(rng, Weather()),
    )


def _rain_at_night(rng: np.random.Generator, look: Appearance) -> Appearance:
    dark = _night(rng, look)
    return replace(dark, weather=_wet(rng, dark.weather))


def _fog(rng: np.random.Generator, look: Appearance) -> Appearance:
    pale = float(rng.uniform(0.55, 0.8))
    return replace(
        _overcast(rng, look),
        sun_strength=0.0,
        haze_per_m=float(rng.uniform(0.018, 0.05)),
        sky=_grey(pale, rng),
        horizon=_grey(pale, rng),
        weather=Weather(words=("fog",)),
    )


_CONDITIONS: dict[Condition, Draw] = {
    "clear": _clear, "low-sun": _low_sun, "overcast": _overcast, "dusk": _dusk, "night": _night, "rain": _rain,
    "rain-at-night": _rain_at_night, "fog": _fog,
}  # fmt: skip
_TURNS: tuple[Condition, ...] = (
    "clear", "clear", "clear", "low-sun", "overcast", "overcast", "dusk", "night", "night", "rain", "rain-at-night",
    "fog",
)  # fmt: skip
