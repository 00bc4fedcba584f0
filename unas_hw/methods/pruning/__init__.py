"""Differentiable pruning: a smaller network in one of the user's own."""
