"""Ways to search, one folder each, readable alone: ``config.py``, ``search.py``, ``job.py``."""
