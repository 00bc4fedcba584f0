"""Ways to search, one file each, readable from top to bottom."""
