"""Latency lookup tables: rows, storage, calibration and the exact expectation; knows no space and no training."""
