"""Measures a device for a search space, then says what networks of it would take, without measuring those.

python examples/profile_and_predict.py measures this CPU; with sim:phone behind it a simulated phone, and
unas-hw devices names others.
"""

import random
import sys

import unas_hw

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
table = unas_hw.profile("mbconv-small", device=device, networks=8, rounds=12)
rows = table.to_pandas()
print(f"{len(rows)} rows in {table.path}; the slowest operations, in ms:")
print(rows[rows["role"] == "op"]["latency_ms"].nlargest(3).to_string())

generator = random.Random(0)
for _ in range(3):
    predicted = table.predict(table.space.draw(generator))
    low_ms, high_ms = predicted.interval
    print(f"\n{predicted.architecture}")
    print(f"{predicted.predicted_ms:.3f} ms, 90% of such networks between {low_ms:.3f} and {high_ms:.3f} ms")
    print(f"{predicted.params:,} parameters, {predicted.macs:,} multiply-accumulates")
