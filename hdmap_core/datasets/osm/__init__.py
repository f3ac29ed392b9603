"""OpenStreetMap roads of the nuScenes cities, for SD maps."""
