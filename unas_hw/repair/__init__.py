"""A missed budget is mended by the nearest network that keeps it."""
