"""Maps into messages and pictures, and the map over time."""
