"""Small files in the layouts of publishers; numbers are made up."""

from __future__ import annotations

from latency_tables.importers.testing import Example

PROXYLESSNAS = Example(
    """\
Conv-input:224x224x3-output:112x112x32:
  count: 100
  mean: 4.5
  var: 0.25
Conv_1-input:7x7x320-output:7x7x1280:
  count: 100
  mean: 6.25
  var: 0.16
Logits-input:7x7x1280-output:1000:
  count: 400
  mean: 0.75
  var: 0.01
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0:
  count: 156
  mean: 5.6
  var: 0.09
expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:5-stride:1-idskip:1:
  count: 144
  mean: 2.5
  var: 0.04
expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:5-stride:1-idskip:0:
  mean: 2.25
Upsample-input:7x7x8-output:14x14x8:
  mean: 0.125
""",
    rows=7,
)
ONCEFORALL = Example(
    """\
AvgPool2D-input:5x5x1152-output:1x1x1152:
  count: 400
  mean: 0.0085
  std: 0.0007
Conv-input:160x160x3-output:80x80x24:
  count: 400
  mean: 0.5
  std: 0.01
Conv_2-input:1x1x1152-output:1x1x1536:
  count: 400
  mean: 0.75
  std: 0.1
expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1:
  count: 100
  mean: 0.875
  std: 0.02
expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:0-hs:1:
  count: 100
  mean: 0.625
  std: 0.02
expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:0:
  count: 100
  mean: 0.75
  std: 0.02
""",
    rows=6,
)
FBNET_JSON = Example(
    "[\n null,\n [\n 10430.25,\n 17413.5,\n 232.125\n ],\n [\n 9378.5,\n 16170.75\n ],\n null\n]\n", rows=5, unit="us"
)
FBNET_TEXT = Example("ir_k3_e1 ir_k3_s2 skip\n5129.75 3028.5 1.625\n2449.25 4480.5 847.875\n", rows=6, unit="us")
SINGLE_PATH = Example(
    '{"20": {"1": 4.9217, "0": 2.4381}, "1": {"1": 9.2015, "0": 4.4905, "3": 11.5892}}', rows=5, unit="ms"
)
CSV = Example(
    "key,ms,sd_ms,origin,source\n"
    '"conv[kernel=3,out=32,stride=2]@1x3x224x224:float32",4.5,0.05,published,"Conv, first"\n'
    "my block 7,0.1,,,\n"
    "other,12.75,nan,adapted,elsewhere\n",
    rows=3,
)
EXAMPLES = {
    "proxylessnas": PROXYLESSNAS,
    "onceforall": ONCEFORALL,
    "fbnet": FBNET_JSON,
    "fbnet as text": FBNET_TEXT,
    "single-path-nas": SINGLE_PATH,
    "csv": CSV,
}
