"""The body of the ego vehicle, as its own cameras see it."""

from dataclasses import dataclass

from hdmap_core.datasets.synthetic.town import RGB


@dataclass(frozen=True)
class OwnCar:
    """A smooth car body in the ego frame (x forward, y left, z up, on the ground below the rear axle); metres."""

    front_m: float
    """From the rear axle to the front end."""
    rear_m: float
    """From the rear axle to the rear end."""
    width_m: float
    roof_m: float
    """Height of the roof: below every camera that stands on it."""
    bonnet_m: float
    """Height of the bonnet's rear edge."""
    boot_m: float
    """Height of the boot, or of the foot of the rear window."""
    colour: RGB
    gloss: float
    """0 matt .. 1 mirrors the sky."""
