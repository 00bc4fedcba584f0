"""Exported programs to ``.tflite``; a script that runs in an environment of its own, where litert-torch is.

A request is a line of JSON with ``program``, ``shape``, ``path``, and ``images`` where 8 bits are wanted; the answer is
one too, with ``error`` where it failed and ``missing`` where a library is. The process ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib import import_module
from typing import Any

SIGNATURE, INPUT = "serving_default", "args_0"
"""As litert-torch names them."""


def convert(request: dict[str, Any]) -> None:
    """Writes the file that is asked for."""
    torch, litert_torch = import_module("torch"), import_module("litert_torch")
    module = torch.export.load(request["program"]).module()
    litert_torch.convert(module, (torch.zeros(request["shape"]),)).export(request["path"])
    if "images" in request:
        quantize(request["path"], request["images"])


def quantize(path: str, images: str) -> None:
    """Replaces the file by one in 8 bits: weights per channel, activations by their range on batches of images."""
    numpy, recipe = import_module("numpy"), import_module("ai_edge_quantizer.recipe")
    quantizer = import_module("ai_edge_quantizer.quantizer").Quantizer(path, recipe.static_wi8_ai8())
    batches = [{INPUT: batch} for batch in numpy.load(images, allow_pickle=False)]
    quantizer.quantize(quantizer.calibrate({SIGNATURE: batches})).export_model(path, overwrite=True)


def main() -> None:
    """Answers requests, one by one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not answer for us
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        try:
            convert(json.loads(line))
        except ImportError as error:
            answer = {"error": str(error), "missing": True}
        except Exception as error:  # whoever asked can tell the user
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
