"""What people call from Python: every command of ``unas-hw`` as a function whose result is an object.

``import unas_hw`` has all of it, and loads it when it is used.
"""

from profilers.environment import spin_briefly

spin_briefly()
