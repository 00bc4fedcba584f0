"""An ONNX file in 8-bit integers: quantise and dequantise nodes (QDQ) around what its runtime then fuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from profilers.agent.engine import Array

CALIBRATION_BATCHES = 4


def quantize(source: Path, path: Path, images: Iterator[Array], *, symmetric: bool) -> None:
    """Writes the ONNX file at ``source``, of one input, in 8 bits: weights per channel, activations by their range on
    images.

    Weights use 7 of them: x86 processors without VNNI add pairs of products in 16 bits, which overflow otherwise; where
    no GPU is at hand, what TensorRT builds of is compared on such a processor too. Images are batches of the input,
    float32; random ones will do where only the time matters.

    ``symmetric``: zero is at zero for activations too, as TensorRT wants it. It leaves half of the range of a ReLU
    unused, and onnxruntime cannot fuse the ReLU then (1.5 times as slow, on an inverted residual).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def get_next(self) -> dict[str, Array]:
            image = next(images, None)
            return {} if image is None else {name: image}  # no input is its end

    name = str(onnx.load(source, load_external_data=False).graph.input[0].name)
    level = (logger := logging.getLogger()).level
    logger.setLevel(logging.ERROR)  # it recommends an optimisation that the runtimes do by themselves
    try:
        quantize_static(
            source,
            path,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            # Biases stay as they are: runtimes round them themselves, and TensorRT takes none of 32 bits.
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": False},
        )
    finally:
        logger.setLevel(level)


def random_images(shape: tuple[int, ...]) -> Iterator[Array]:
    """Standard normal batches, the same every time."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape).astype(np.float32) for _ in range(CALIBRATION_BATCHES))
