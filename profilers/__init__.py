"""Measure the latency of operations on a device; knows devices, runtimes and clocks, nothing above."""
