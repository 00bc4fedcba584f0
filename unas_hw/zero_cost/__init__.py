"""Scores of networks that nobody trained: FreeFlow of a whole space, and the proxies of the field of one network."""
