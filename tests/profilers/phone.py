"""A phone for tests: the file system of one, and benchmark tools on it that really run the model.

To start Python with a runtime takes half a second, so the tools are small programs that ask a server in this process:
it loads the very file that was pushed, runs it as often as the tool was told to, and says how long each run took. The
tools print that as the real ones do.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profilers.agent.engines.ncnn import library

TOOLS = {"litert": "benchmark_model", "ncnn": "benchncnn", "onnxruntime": "onnxruntime_perf_test"}
ZONES = (("cpu-0-0", "41500"), ("battery", "305"))


@contextmanager
def adb_server(home: Path) -> Iterator[str]:
    """The client, with a server that nobody else uses."""
    client = shutil.which("adb")
    if client is None:
        pytest.skip("adb is missing: apt-get install adb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))  # its keys go there
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")  # it looks for no emulators
        patch.delenv("ANDROID_SERIAL", raising=False)
        server = subprocess.Popen([client, "server", "nodaemon"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield client
        finally:  # not by kill-server, which was seen to wait for ever
            server.terminate()
            server.wait()


def adb(client: str, *words: str) -> str:
    """What the client says."""
    done = subprocess.run([client, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def android(
    root: Path, max_khz: Sequence[int] = (1_800_000, 2_400_000), zones: Sequence[tuple[str, str]] = ZONES
) -> Path:
    """A file system with what the facts are read from."""
    for index, khz in enumerate(max_khz):
        folder = root / f"sys/devices/system/cpu/cpu{index}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    (root / "sys/devices/system/cpu/cpufreq").mkdir()
    for index, (name, value) in enumerate(zones):
        zone = root / f"sys/class/thermal/thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{name}\n")
        (zone / "temp").write_text(f"{value}\n")
    (root / "system/bin").mkdir(parents=True)
    says = {"ro.product.model": "Fake 1", "ro.product.cpu.abi": "arm64-v8a", "ro.build.version.release": "13"}
    cases = " ".join(f"{name}) echo '{value}';;" for name, value in says.items())
    script(root / "system/bin/getprop", f"#!/bin/sh\ncase $1 in {cases} esac\n")
    return root


def script(path: Path, text: str) -> Path:
    """An executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return path


CLIENT = """#!{python} -IS
import json, socket, sys
words = sys.argv[1:]
{request}
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
link.sendall(json.dumps(request).encode() + b"\\n")
found = json.loads(link.makefile().readline())
if "error" in found:
    sys.exit(found["error"])
ms = [1e3 * s for s in found["s"]]
mean = sum(ms) / len(ms)
{printed}
"""

REQUESTS = {
    "onnxruntime": """
*options, model, result = words
flags = dict(zip(options[::2], options[1::2]))
assert flags["-m"] == "times" and options[-2:] == ["-s", "-I"], words
request = {"runtime": "onnxruntime", "model": model, "runs": int(flags["-r"]), "threads": int(flags["-x"])}
""",
    "litert": """
flags = dict(word[2:].split("=", 1) for word in words)
request = {"runtime": "litert", "model": flags["graph"], "runs": int(flags["num_runs"])}
request["threads"] = int(flags["num_threads"])
""",
    "ncnn": """
runs, threads, powersave, gpu, cooling = map(int, words[:5])
named = dict(word.split("=", 1) for word in words[5:])
request = {"runtime": "ncnn", "model": named["param"], "runs": runs, "threads": threads, "shape": named["shape"]}
""",
}
PRINTED = {
    "onnxruntime": """
with open(result, "a") as file:
    for number, each in enumerate(ms):
        file.write("model,%.9g,109531136,12,%d\\n" % (each / 1e3, number))
    file.write("\\nMin Latency: %g s\\n" % (min(ms) / 1e3))
print("Setting intra_op_num_threads to %d" % request["threads"])
print("Session creation time cost: 0.0508382 s\\nFirst inference time cost: 21 ms")
print("Total inference requests: %d\\nAverage inference time cost: %g ms" % (len(ms), mean))
print("Peak working set size: 109531136 bytes\\nP50 Latency: %g s" % (sorted(ms)[len(ms) // 2] / 1e3))
""",
    "litert": """
line = "INFO: count=%d first=%d curr=%d min=%d max=%d avg=%g std=%d\\n"
us = [1e3 * each for each in ms]
numbers = (len(us), us[0], us[-1], min(us), max(us), sum(us) / len(us), 1)
print("INFO: STARTING!\\nINFO: Graph: [%s]" % request["model"])
print(line % (1, *numbers[1:]))
print(line % numbers)
print("INFO: Inference timings in us: Init: 12750, First inference: %d, Warmup (avg): 1, Inference (avg): 1" % us[0])
print("INFO: Memory footprint delta from the start of the tool (MB): init=8.5 overall=12.5")
""",
    "ncnn": """
say = lambda line: print(line, file=sys.stderr)
say("loop_count = %d\\nnum_threads = %d\\npowersave = %d\\ngpu_device = %d" % (runs, threads, powersave, gpu))
say("cooling_down = %d" % cooling)
say("%20s  min = %7.2f  max = %7.2f  avg = %7.2f" % (request["model"], min(ms), max(ms), mean))
""",
}


@contextmanager
def tools(folder: Path) -> Iterator[dict[str, Path]]:
    """The tools by runtime, which work as long as this is open."""
    address = folder / "server"
    with _Server(str(address), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        found = {}
        for runtime, name in TOOLS.items():
            parts = {"request": REQUESTS[runtime], "printed": PRINTED[runtime]}
            found[runtime] = script(folder / name, CLIENT.format(python=sys.executable, address=str(address), **parts))
        yield found
        server.shutdown()
        thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loaded: dict[tuple[str, int], Callable[[], object]] = {}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if line:
            try:
                answer: dict[str, Any] = {"s": self._times_s(json.loads(line))}
            except Exception as error:  # the tool says it
                answer = {"error": f"Load model failed:{error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _times_s(self, request: dict[str, Any]) -> list[float]:
        assert isinstance(self.server, _Server)
        path, loaded = request["model"], self.server.loaded
        key = (path, os.stat(path).st_mtime_ns)
        if key not in loaded:
            loaded[key] = LOAD[request["runtime"]](request)
            loaded[key]()
        run, found = loaded[key], []
        for _ in range(request["runs"]):
            begin = time.perf_counter()
            run()
            found.append(time.perf_counter() - begin)
        return found


def _onnxruntime(request: dict[str, Any]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    feed = {taken.name: np.zeros(taken.shape, np.float32)}
    return lambda: session.run(None, feed)


def _litert(request: dict[str, Any]) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(request["model"], num_threads=request["threads"])
    interpreter.allocate_tensors()
    return lambda: interpreter.invoke()


def _ncnn(request: dict[str, Any]) -> Callable[[], object]:
    ncnn = library()
    net = ncnn.Net()
    net.opt.num_threads = request["threads"]
    if net.load_param(request["model"]):
        raise ValueError(f"fopen {request['model']} failed")
    net.load_model(ncnn.DataReaderFromEmpty())
    width, height, channels = json.loads(request["shape"])
    image = ncnn.Mat(np.zeros((channels, height, width), np.float32))

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], image)
        return extractor.extract(net.output_names()[0])

    return run


LOAD = {"onnxruntime": _onnxruntime, "litert": _litert, "ncnn": _ncnn}
