"""The LiDAR slot: BEV features of points, or of a stand-in for them."""
