"""From a budget to a verified file: measures a space, searches it, trains, exports and verifies what was found.

python examples/search_and_export.py measures this CPU; with sim:phone behind it a simulated phone, and
unas-hw devices names others.

A few epochs, so that it ends within a minute; leave them out for a search that is worth something.
"""

import sys
from pathlib import Path

import unas_hw

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
SPACE = str(Path(__file__).with_name("tiny.yaml"))


class Watch(unas_hw.Callback):
    """Prints what is worth knowing while it runs."""

    def on_epoch_end(self, metrics):
        print(f"{metrics['stage']}, epoch {metrics['epoch']}")

    def on_candidate_measured(self, candidate):
        print(f"measured {candidate['architecture']}: {candidate['latency_ms']:.3f} ms")


table = unas_hw.profile(SPACE, device=DEVICE, networks=6, rounds=12)
short = {"warmup_epochs": 2, "epochs": 1, "unas": {"finetune_epochs": 2}}
found = unas_hw.search(table, budget="70%", dataset="digits", rounds=12, callbacks=[Watch()], **short)
print(f"\n{found.architecture}: {found.latency}")
print(found.front.to_pandas()[["architecture", "latency_ms", "valid_loss", "on_front"]].to_string())

trained = found.train(epochs=4)
low, high = trained.test_interval
print(f"\n{trained.test_accuracy:.1%} of the test images are right (95%: {low:.1%} to {high:.1%})")

file = found.export("onnx", rounds=12)
print(f"\n{file.path}: {'passed' if file.verdict.passed else 'did not pass'}\n{file.verdict}")
