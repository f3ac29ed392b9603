"""Streets: network, surface, lanes, kerbs and paint, in either edition."""
