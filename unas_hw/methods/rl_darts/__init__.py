"""RL-DARTS: a supernet plays, learns and is pruned to a cell."""
