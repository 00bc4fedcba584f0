"""What times operations: a process of its own, on this machine or on a board.

It is sent to boards as it is. Nothing here imports anything but the standard library, numpy and, late, the one runtime
that it runs; the syntax is that of Python 3.8.
"""
