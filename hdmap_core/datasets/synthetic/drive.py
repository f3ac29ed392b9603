"""The ego vehicle's motion along a route: speed, stops, and the body's roll and pitch."""

from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.curve import directions, headings_at, left_of, points_at, total_length
from hdmap_core.datasets.synthetic.ground.relief import FLAT, Relief
from hdmap_core.geometry.se3 import rotation_from_euler, se3

TIME_STEP_S = 0.02
DISTANCE_STEP_M = 0.25
MAX_ACCELERATION = 1.6
MAX_DECELERATION = 2.2
MAX_LATERAL_ACCELERATION = 2.2
WHEELBASE_M = 2.7
TRACK_M = 1.6
MARGIN_S = 1.0


@dataclass(frozen=True)
class Drive:
    """A drive along a route. `distance`, and `roll` and `pitch` against the road (T,), are sampled every `TIME_STEP_S`
    from time `start_s`.
    """

    route: np.ndarray
    start_s: float
    distance: np.ndarray
    roll: np.ndarray
    pitch: np.ndarray
    heading: np.ndarray
    """(T,) unwrapped yaw in radians."""
    relief: Relief = FLAT

    @property
    def times(self) -> np.ndarray:
        """(T,) seconds of the samples."""
        return self.start_s + TIME_STEP_S * np.arange(len(self.distance))

    def town_from_ego(self, time_s: float) -> np.ndarray:
        """(4, 4) float64 pose of the ego frame (x forward, y left, z up, on the road at the rear axle) at a time.

        Times outside the drive are clamped to its ends. The road is the plane that the wheels stand on; the body
        pitches and rolls against it.
        """
        at = self.times
        position = points_at(self.route, np.interp(time_s, at, self.distance))
        yaw, roll, pitch = (float(np.interp(time_s, at, v)) for v in (self.heading, self.roll, self.pitch))
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_euler(roll, pitch, yaw)
        pose[:2, 3] = position
        if self.relief.is_flat:
            return pose
        return road_below(self.relief, position, yaw) @ se3(rotation_from_euler(roll, pitch, 0.0), np.zeros(3))

    def speed(self, time_s: float) -> float:
        """Metres per second at a time."""
        before, after = np.interp([time_s - 0.05, time_s + 0.05], self.times, self.distance)
        return float(after - before) / 0.1

    def positions(self, times: np.ndarray) -> np.ndarray:
        """(N, 2) ground positions at `times` (N,) seconds."""
        return points_at(self.route, np.interp(times, self.times, self.distance))


@dataclass(frozen=True)
class Springs:
    """How much a body gives way beyond the first edition's: radians per m/s² of braking, and of cornering."""

    squat: float
    lean: float


STIFF = Springs(0.0, 0.0)


def draw_springs(rng: np.random.Generator) -> Springs:
    """Another car of the fleet: up to 0.6° of pitch under braking and 0.8° of roll in a tight bend."""
    return Springs(float(np.deg2rad(rng.uniform(0.05, 0.15))), float(np.deg2rad(rng.uniform(0.15, 0.35))))


def road_below(relief: Relief, position: np.ndarray, yaw: float) -> np.ndarray:
    """(4, 4) float64, town from road: the plane that a car's wheels stand on, at its rear axle `position` (2,)."""
    ahead = directions(yaw)
    axle = position + np.outer([-0.5, 0.5], TRACK_M * left_of(ahead))
    rear, front = relief.smooth(axle), relief.smooth(axle + WHEELBASE_M * ahead)
    climb = (front.mean() - rear.mean()) / WHEELBASE_M
    bank = 0.5 * (rear[1] - rear[0] + front[1] - front[0]) / TRACK_M
    # The plane's z axis is (-climb, -bank, 1) in the level frame that heads along `yaw`.
    roll, pitch = np.arctan2(bank, np.hypot(1.0, climb)), -np.arctan(climb)
    return se3(rotation_from_euler(float(roll), float(pitch), yaw), np.array([*position, rear.mean()]))


def plan_drive(
    rng: np.random.Generator,
    route: np.ndarray,
    duration_s: float,
    relief: Relief = FLAT,
    springs: Springs = STIFF,
) -> Drive:
    """Draw a drive that covers times -MARGIN_S .. duration_s + MARGIN_S and stays on the route.

    Speed follows a cruising speed of 5 to 11 m/s, bends (lateral acceleration) and now and then a stop.
    """
    length = total_length(route)
    span = duration_s + 2 * MARGIN_S
    cruise = float(rng.uniform(6.0, 11.0))
    start = float(rng.uniform(8.0, max(9.0, length - cruise * span - 4.0)))
    along = np.arange(0.0, length, DISTANCE_STEP_M)
    speed = _speed_by_distance(rng, route, along, cruise, start)
    # Time at which each distance is reached; a stop adds waiting time at its place.
    slow = np.maximum((speed[1:] + speed[:-1]) / 2, 0.25)
    clock = np.concatenate([[0.0], np.cumsum(DISTANCE_STEP_M / slow)])
    clock -= np.interp(start, along, clock)
    times = -MARGIN_S + TIME_STEP_S * np.arange(int(np.ceil(span / TIME_STEP_S)) + 1)
    distance = np.interp(times + MARGIN_S, clock, along)
    distance = _smooth(distance, 0.35)
    acceleration = _smooth(np.gradient(np.gradient(distance, TIME_STEP_S), TIME_STEP_S), 0.3)
    pitch = _sway(rng, times, np.deg2rad(0.17)) - np.deg2rad(0.12) * acceleration
    roll = _sway(rng, times, np.deg2rad(0.2))
    heading = _smooth(np.unwrap(headings_at(route, distance, 1.2)), 0.15)
    pull = np.gradient(distance, TIME_STEP_S) * np.gradient(heading, TIME_STEP_S)
    pitch, roll = pitch - springs.squat * acceleration, roll + springs.lean * _smooth(pull, 0.3)
    return Drive(route, -MARGIN_S, distance, roll, pitch, heading, relief)


def _speed_by_distance(
    rng: np.random.Generator, route: np.ndarray, along: np.ndarray, cruise: float, start: float
) -> np.ndarray:
    """(N,) allowed speed at each distance, with braking before bends and stops and acceleration after them."""
    heading = np.unwrap(headings_at(route, along, 2.0))
    curvature = np.abs(np.gradient(heading, DISTANCE_STEP_M))
    speed = np.minimum(cruise, np.sqrt(MAX_LATERAL_ACCELERATION / np.maximum(curvature, 1e-3)))
    speed *= 1 + 0.08 * np.sin(along / float(rng.uniform(8, 25)) + float(rng.uniform(0, 6)))
    if rng.random() < 0.3:
        place = start + float(rng.uniform(25, 110))
        speed[np.abs(along - place) < 0.4] = 0.25
    speed = np.maximum(speed, 0.25)
    for i in range(len(speed) - 2, -1, -1):
        speed[i] = min(speed[i], np.sqrt(speed[i + 1] ** 2 + 2 * MAX_DECELERATION * DISTANCE_STEP_M))
    for i in range(1, len(speed)):
        speed[i] = min(speed[i], np.sqrt(speed[i - 1] ** 2 + 2 * MAX_ACCELERATION * DISTANCE_STEP_M))
    return speed


def _smooth(values: np.ndarray, sigma_s: float) -> np.ndarray:
    radius = int(3 * sigma_s / TIME_STEP_S)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) * TIME_STEP_S / sigma_s) ** 2)
    # Odd extension keeps the trend at both ends.
    head, tail = 2 * values[0] - values[radius:0:-1], 2 * values[-1] - values[-2 : -radius - 2 : -1]
    return np.convolve(np.concatenate([head, values, tail]), weights / weights.sum(), mode="valid")


def _sway(rng: np.random.Generator, times: np.ndarray, sigma: float) -> np.ndarray:
    """A smooth random angle with standard deviation `sigma`: four slow waves."""
    rates, phases = rng.uniform(0.15, 1.6, 4) * 2 * np.pi, rng.uniform(0, 2 * np.pi, 4)
    return sigma / np.sqrt(2) * np.sin(times[:, None] * rates + phases).sum(axis=1) + float(rng.normal(0, sigma / 2))
