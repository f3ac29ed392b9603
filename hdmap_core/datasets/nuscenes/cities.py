"""The four cities of nuScenes and where their map frames lie."""

from hdmap_core.geometry.map_origin import MapOrigin

CITIES = {
    "boston-seaport": MapOrigin(42.336849169438615, -71.05785369873047),
    "singapore-onenorth": MapOrigin(1.2882100868743724, 103.78475189208984),
    "singapore-hollandvillage": MapOrigin(1.2993652317780957, 103.78217697143555),
    "singapore-queenstown": MapOrigin(1.2782562240223188, 103.76741409301758),
}
"""The south-west corner of each map (nuscenes-devkit). Synthetic towns stand in these frames too."""
