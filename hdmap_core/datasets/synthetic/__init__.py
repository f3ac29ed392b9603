"""A made-up world, written as a nuScenes folder."""
