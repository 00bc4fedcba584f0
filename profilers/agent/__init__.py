"""What times operations: a process of its own, on this machine or on a board.

It is sent to boards as it is. Nothing here imports anything but the standard library, numpy and, late, the one runtime
that it runs; the syntax is that of Python 3.8.
"""

import os
import sys
from typing import cast

# Runtimes that tell their makers what is done with them: onnxruntime (from 1.29 on) by threads beside what is timed,
# OpenVINO by a process that it forks off ours. Both are asked before they are imported only, so here, which all that
# imports them imports first. Who wants the former sets it to 0; the latter does without where its module is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
cast("dict[str, object]", sys.modules).setdefault("openvino_telemetry", None)
