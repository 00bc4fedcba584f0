"""What of a network can be left out: channels and residual blocks, found by tracing it."""
