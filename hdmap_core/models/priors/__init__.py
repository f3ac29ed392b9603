"""Prior knowledge of maps: the standard map around the car, and what HD maps look like."""
