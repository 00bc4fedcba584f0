"""Slow evidence, one command a file; results are kept under ``benchmarks/results/``."""
