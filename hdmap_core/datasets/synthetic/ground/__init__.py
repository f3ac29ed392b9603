"""The ground: painted from above once per town, flat or with heights, then seen by cameras."""
