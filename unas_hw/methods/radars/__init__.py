"""RADARS: the space is pruned until a step of the search keeps a memory bound."""
