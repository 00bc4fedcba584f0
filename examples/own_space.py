"""A search space of one's own, described in a few lines, and the network of it that promises most, without training.

python examples/own_space.py measures this CPU; with sim:phone behind it a simulated phone, and
unas-hw devices names others.

docs/spaces.md explains every word of the description, and how to bring blocks that it does not have.
"""

import sys
from pathlib import Path

import torch

import unas_hw

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
DESCRIPTION = """\
input: [1, 8, 8]
classes: 10
layers:
  - conv: {out: 16, kernel: 3}
  - choice:
      name: body
      repeat: 4
      out: 32
      stride: 2
      among:
        thin: {mbconv: {kernel: 3, expand: 2}}
        wide: {mbconv: {kernel: 5, expand: 6}}
        plain: residual
        id: identity
  - classifier
"""

Path("own.yaml").write_text(DESCRIPTION, encoding="utf-8")
space = unas_hw.find_space("own.yaml")
for decision in space.decisions:
    print(f"{decision.name}: {', '.join(decision.choices)}")

table = unas_hw.profile("own.yaml", device=DEVICE, networks=6, rounds=12)
found = unas_hw.search(table, budget="60%", method="freenas", rounds=12)
print(f"\nof {space.size} networks {found.architecture}\n{found.latency}")

network = found.network()
print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters")
print(f"outputs of three images: {tuple(network(torch.zeros(3, 1, 8, 8)).shape)}; found.train() trains it")
