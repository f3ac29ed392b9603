"""A town in the words of nuScenes and of Argoverse 2: tables, boxes, maps."""
