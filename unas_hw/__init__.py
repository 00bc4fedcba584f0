"""Search for networks that meet a latency on a device."""
