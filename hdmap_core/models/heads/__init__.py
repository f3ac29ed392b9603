"""From BEV features to map outputs."""
