"""What holds for all tests."""

from profilers.environment import spin_briefly

spin_briefly()  # before any test imports torch: other work may share the cores
