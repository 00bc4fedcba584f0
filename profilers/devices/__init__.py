"""Where a runtime runs."""
