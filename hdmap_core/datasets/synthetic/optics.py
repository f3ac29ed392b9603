"""What one camera's lens and sensor do to the picture: plain numbers; the defaults change nothing."""

from dataclasses import dataclass

from hdmap_core.datasets.synthetic.town import RGB


@dataclass(frozen=True)
class Optics:
    """Lens and sensor of one camera. Pixels are those of an image 1600 wide."""

    exposure_error: float = 0.0
    """Stops that the automatic exposure is off; positive is too bright."""
    white_balance: RGB = (1.0, 1.0, 1.0)
    """Gain of each channel."""
    exposure_s: float = 0.0
    """Seconds that the shutter is open: how far motion smears."""
    defocus_px: float = 0.0
    """Standard deviation of the blur of what should be sharp."""
    noise: float = 1.0
    """Sensor noise as a multiple of that of a well-lit picture."""
    vignetting: float = 0.0
    """Share of the light that is missing in the corners."""
    jpeg_quality: int = 100
    """At most; the data set's own quality may be lower."""
    dirt: float = 0.0
    """0 clean .. 1 filthy."""
    drops: float = 0.0
    """Drops of water on the lens: 0 none .. 1 covered."""
    seed: int = 0
    """Where dirt and drops sit."""
