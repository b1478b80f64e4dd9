"""darkpy config."""
