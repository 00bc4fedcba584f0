"""What the runtimes' benchmark tools print, and what is read from it."""

from __future__ import annotations

import shlex

import pytest

from profilers.devices.benchmark_tools import (
    TOOLS,
    LiteRTBenchmark,
    NcnnBenchmark,
    OnnxRuntimeBenchmark,
    Tool,
)
from profilers.errors import ConversionError, ToolOutputError

LITERT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [mobilenet_v1_1.0_224.tflite]
INFO: Loaded model mobilenet_v1_1.0_224.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 16.9008
INFO: Initialized session in 12.75ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=37 first=14744 curr=15520 min=13164 max=18295 avg=13764.3 std=967

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470

INFO: Inference timings in us: Init: 12750, First inference: 14744, Warmup (avg): 13764.3, Inference (avg): 13520.2
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=8.5 overall=12.5
"""

NCNN = """\
loop_count = 10
num_threads = 1
powersave = 2
gpu_device = -1
cooling_down = 0
/data/local/tmp/x.param  min =   11.73  max =   11.88  avg =   11.78
"""

ORT = """\
Setting intra_op_num_threads to 1
Session creation time cost: 0.0508382 s
First inference time cost: 21 ms
Total inference time cost: 1.9918 s
Total inference requests: 100
Average inference time cost: 19.918 ms
Total inference run time: 1.99202 s
Number of inferences per second: 50.2002
Avg CPU usage: 12 %
Peak working set size: 109531136 bytes
Min Latency: 0.0197812 s
Max Latency: 0.0202704 s
P50 Latency: 0.0199047 s
P90 Latency: 0.0200251 s
"""

ORT_FILE = """\
a,b,0.0199,109531136,12,0
a,b,0.0197812,109531136,12,1
a,b,2.02704e-02,109531136,12,2

Min Latency: 0.0197812 s
Max Latency: 0.0202704 s
"""


def _command(tool: Tool, model: str) -> str:
    return tool.command(model, shape=(1, 3, 224, 160), threads=2, runs=30, result_file="/tmp/r.csv")


def test_commands() -> None:
    assert _command(LiteRTBenchmark("./bm"), "m.tflite") == (
        "./bm --graph=m.tflite --num_threads=2 --num_runs=30 --use_xnnpack=true --warmup_runs=5"
        " --warmup_min_secs=0.1 --min_secs=0 --max_secs=60 2>&1"
    )
    assert _command(NcnnBenchmark("./bn"), "m.param") == (
        "./bn 30 2 2 -1 0 param=m.param 'shape=[160,224,3]' 2>&1"  # width first
    )
    assert _command(OnnxRuntimeBenchmark("./ort", provider="xnnpack"), "m.onnx") == (
        "rm -f /tmp/r.csv && ./ort -e xnnpack -m times -r 30 -x 2 -s -I m.onnx /tmp/r.csv 2>&1"
    )


@pytest.mark.parametrize("runtime", TOOLS)
def test_paths_with_blanks_stay_one_word(runtime: str) -> None:
    words = shlex.split(_command(TOOLS[runtime]("/data/local tmp/tool"), "my model's file"))
    assert "/data/local tmp/tool" in words
    assert any(word.endswith("my model's file") for word in words)


def test_ncnn_refuses_a_batch() -> None:
    with pytest.raises(ConversionError, match="one image at a time"):
        NcnnBenchmark("x").command("m", shape=(4, 3, 8, 8), threads=1, runs=1, result_file="r")


def test_litert() -> None:
    timing = LiteRTBenchmark("x").parse(LITERT)
    assert (timing.statistic, timing.runs) == ("mean", 74)
    assert timing.latency_ms == pytest.approx(13.5202)
    assert (timing.memory_bytes, timing.memory) == (int(12.5 * 2**20), "growth")


def test_litert_without_labels_with_a_median_and_a_peak() -> None:
    text = LITERT.replace("INFO: ", "").replace("std=470", "std=470 p5=13150 median=13400 p95=14100")
    text += "Overall peak memory footprint (MB) via periodic monitoring: 20.25\n"
    timing = LiteRTBenchmark("x").parse(text)
    assert (timing.statistic, timing.latency_ms) == ("median", 13.4)
    assert (timing.memory_bytes, timing.memory) == (int(20.25 * 2**20), "peak")


def test_litert_in_profiling_and_with_equal_runs() -> None:
    same = LITERT.replace(
        "count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470", "count=2 curr=7(all same)"
    )
    timing = LiteRTBenchmark("x").parse(same + "Timings (microseconds): count=50 first=1 curr=1 avg=9\ncount=3 avg=1\n")
    assert (timing.statistic, timing.runs, timing.latency_ms) == ("mean", 2, 0.007)


def test_ncnn() -> None:
    timing = NcnnBenchmark("x").parse(NCNN)
    assert (timing.statistic, timing.latency_ms) == ("mean", 11.78)
    assert (timing.runs, timing.resolution_ms, timing.memory_bytes) == (10, 0.01, None)


def test_an_old_benchncnn_that_times_its_own_list_is_found_out() -> None:
    line = "          squeezenet  min =   11.73  max =   11.88  avg =   11.78\n"
    with pytest.raises(ToolOutputError, match="timed 2 models, 'squeezenet' first"):
        NcnnBenchmark("x").parse(line + line.replace("squeezenet", "mobilenet"))


def test_onnxruntime_samples() -> None:
    timing = OnnxRuntimeBenchmark("x").parse(ORT, ORT_FILE)
    assert timing.statistic == "samples"
    assert timing.latency_ms == pytest.approx(19.9)
    assert timing.runs == 3
    assert (timing.memory_bytes, timing.memory) == (109531136, "peak")


def test_onnxruntime_without_its_file() -> None:
    timing = OnnxRuntimeBenchmark("x").parse(ORT)
    assert (timing.statistic, timing.runs) == ("median", 100)
    assert timing.latency_ms == pytest.approx(19.9047)
    old = ORT.replace("P50 Latency: 0.0199047 s", "P50 Latency is 0.0199047sec")
    assert OnnxRuntimeBenchmark("x").parse(old).latency_ms == pytest.approx(19.9047)
    new = "\n".join(line for line in ORT.splitlines() if "Latency" not in line).replace("cost: 19", "cost total: 19")
    timing = OnnxRuntimeBenchmark("x").parse(new)
    assert (timing.statistic, timing.latency_ms) == ("mean", 19.918)


@pytest.mark.parametrize(
    ("runtime", "text", "quoted"),
    [
        ("litert", "STARTING!\nERROR: Model provided has model identifier 'abcd'\nBenchmarking failed.\n", "'abcd'"),
        ("litert", LITERT.replace("count=74", "count=0"), "count=0"),
        ("ncnn", "loop_count = 4\nfopen m.param failed\nSegmentation fault\n", "fopen m.param failed"),
        ("ncnn", "m  min = 1.0  max = 2.0  avg = -nan\n", "-nan"),
        ("ncnn", "m  min = 3.0  max = 2.0  avg = 1.0\n", "3.0"),
        ("onnxruntime", "Load model from m.onnx failed:Protobuf parsing failed.\n", "Protobuf parsing"),
        ("onnxruntime", "", "''"),
    ],
)
def test_what_cannot_be_read_is_quoted(runtime: str, text: str, quoted: str) -> None:
    with pytest.raises(ToolOutputError) as caught:
        TOOLS[runtime]("x").parse(text)
    assert quoted in str(caught.value)


@pytest.mark.parametrize("line", ["m,fast,1,2,0", "m,0.1", "m,nan,1,2,0"])
def test_a_broken_result_file_is_quoted(line: str) -> None:
    with pytest.raises(ToolOutputError) as caught:
        OnnxRuntimeBenchmark("x").parse(ORT, f"m,0.1,1,2,0\n{line}\n")
    assert line in str(caught.value)
