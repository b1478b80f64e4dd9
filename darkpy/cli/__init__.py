"""darkpy cli."""
