"""What the searches of all methods share."""
