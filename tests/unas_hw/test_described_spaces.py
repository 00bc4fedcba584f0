"""A YAML file becomes the space that it describes, and whatever is wrong with it is said with its line and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profilers.errors import UnasError
from unas_hw.errors import SpaceError, UnknownSpaceError
from unas_hw.spaces import find_space, in_precision
from unas_hw.spaces.mbconv import KERNELS

HEAD = "input: [3, 16, 16]\nclasses: 4\nlayers:\n"
BLOCKS = """
from torch import nn

class Good(nn.Module):
    def __init__(self, in_channels, out_channels, stride, gain=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x):
        return self.conv(x)

class Narrow(nn.Module):
    def __init__(self, channels):
        super().__init__()

class Raises(Good):
    def forward(self, x):
        raise KeyError("inside")

class Pair(Good):
    def forward(self, x):
        return x, x

class Halves(Good):
    def forward(self, x):
        return x[:, :, ::2, ::2]
"""


def written(text: str, name: str = "mine.yaml") -> str:
    Path(name).write_text(text)
    return name


def test_shapes_widths_and_keys_follow_from_the_description() -> None:
    name = written(
        HEAD + "  - conv: {out: 16, kernel: 3, stride: 2, name: stem}\n"
        "  - choice: {repeat: 3, out: 24, stride: 2, name: stage, among: "
        "{k3: {mbconv: {kernel: 3, expand: 3}}, k5: {mbconv: {kernel: 5}}, id: identity}}\n"
        "  - pool: {stride: 2, mode: avg}\n  - residual: {out: 32, repeat: 2, stride: 2}\n  - classifier\n"
    )
    space = find_space(name, batch=2)
    assert [(each.name, each.choices) for each in space.decisions] == [
        ("stage.1", ("k3", "k5")),
        ("stage.2", ("k3", "k5", "id")),
        ("stage.3", ("k3", "k5", "id")),
    ]
    assert [part.key for part in space.parts(space.parse("k5,id,k3"))] == [
        "conv[kernel=3,out=16,stride=2]@2x3x16x16:float32",
        "mbconv[expand=6,kernel=5,out=24,stride=2]@2x16x8x8:float32",
        "mbconv[expand=3,kernel=3,out=24,stride=1]@2x24x4x4:float32",
        "pooling[kernel=3,mode=avg,stride=2]@2x24x4x4:float32",
        "basic_block[kernel=3,out=32,stride=2]@2x24x2x2:float32",
        "basic_block[kernel=3,out=32,stride=1]@2x32x1x1:float32",
        "classifier[classes=4]@2x32x1x1:float32",
    ]


def test_operations_of_the_built_in_spaces_have_their_keys() -> None:
    among = ", ".join(f"k{k}e{e}: {{mbconv: {{kernel: {k}, expand: {e}}}}}" for e in (3, 6) for k in KERNELS)
    stages = "".join(
        f"  - choice: {{repeat: 3, out: {out}, stride: {stride}, among: {{id: identity, {among}}}}}\n"
        for out, stride in ((24, 1), (32, 2), (64, 2))
    )
    name = written(
        "input: [1, 8, 8]\nlayers:\n  - conv: {out: 16}\n  - mbconv: {expand: 1}\n"
        f"{stages}  - conv: {{out: 256, kernel: 1}}\n  - classifier\n"
    )
    built_in = find_space("mbconv-small")
    assert [each.key for each in find_space(name).workloads()] == [each.key for each in built_in.workloads()]
    assert find_space(name).size == built_in.size


def test_every_kind_of_block_makes_a_network_that_runs() -> None:
    Path("own.py").write_text(BLOCKS)
    name = written(
        HEAD + "  - conv: {out: 8, act: none}\n  - choice:\n      among:\n        a: residual\n        b: sep_conv\n"
        "        c: dil_conv\n        d: {pool: {mode: avg}}\n        e: {torch: {block: 'own:Good', gain: 2}}\n"
        "        f: conv\n        g: mbconv\n        identity: identity\n  - global_pool\n  - linear\n"
    )
    space = find_space(name)
    for choice in space.decisions[0].choices:
        network = space.network(space.parse(choice)).eval()
        with torch.inference_mode():
            assert network(torch.randn(3, 3, 16, 16)).shape == (3, 4)


def test_the_images_that_there_are_come_before_those_of_the_file() -> None:
    name = written(HEAD + "  - choice: {among: {a: {conv: {kernel: 1}}, b: conv}}\n  - classifier\n")
    space = find_space(name, image_shape=(1, 7, 7), classes=3, batch=2, precision="float16")
    assert (space.input_shape, space.classes, space.title) == ((2, 1, 7, 7), 3, "mine@2x1x7x7:float16")
    assert space.origin == str(Path(name).resolve())
    again = in_precision(space, "float32")
    assert (again.title, again.classes, again.origin) == ("mine@2x1x7x7", 3, space.origin)


def test_a_block_of_ones_own_has_another_key_when_its_file_changes() -> None:
    name = written(HEAD + "  - choice: {among: {a: {torch: own:Good}, b: conv}}\n  - classifier\n")
    keys = []
    for content in (BLOCKS, BLOCKS + "\n# changed\n", BLOCKS):
        Path("own.py").write_text(content)
        keys.append(find_space(name).workloads()[0].key)
    assert keys[0].startswith("torch.Good[out=3,source=") and keys[0] == keys[2] != keys[1]


def test_files_of_one_name_in_two_folders_are_two_modules() -> None:
    kernels = []
    choice = "  - choice: {among: {a: {torch: 'own:Good'}, b: {pool: {kernel: KERNEL}}}}\n  - classifier\n"
    for folder, kernel in (("one", 1), ("two", 3)):
        Path(folder).mkdir()
        Path(folder, "own.py").write_text(BLOCKS.replace("out_channels, 1, stride", f"out_channels, {kernel}, stride"))
        name = written(HEAD + choice.replace("KERNEL", str(kernel)), f"{folder}/mine.yaml")
        kernels.append(Path(name))
    with pytest.raises(SpaceError, match="3x14x14"):  # unlike the other it does not pad
        find_space(str(kernels[1]))
    assert find_space(str(kernels[0])).size == 2


CHOICE = "  - choice: {%s, among: {a: {mbconv: {kernel: 3}}, b: {mbconv: {kernel: 5}}, id: identity}}\n  - classifier\n"


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("", "mine.yaml is empty", "docs/spaces.md"),
        ("- a\n", "line 1: a space has name, input, classes, layers, here is a list", "docs"),
        ("layers: [a\n", "line 2 is not YAML", "docs"),
        ("a: \x00\n", "is not YAML", "docs"),
        ("a: &a [*a]\nlayers: *a\n", "refers to itself", "docs"),
        ("name: 2020-99-99\n", "is not YAML", "docs"),
        ("layers: !!python/object/apply:os.getcwd []\n", "line 1, layers: expected a list", "docs"),
        ("name: !!python/name:os.getcwd\nlayers: [conv]\n", "could not determine a constructor", "docs"),
        ("layer:\n  - conv\n", "line 1, layer: a space has no 'layer'", "did you mean 'layers'?"),
        ("name: mine\n", "a space needs layers", "write layers:"),
        ("layers: conv\n", "line 1, layers: expected a list of blocks", "docs"),
        ("name: a b\nlayers: [conv]\n", "'a b' is no name for a space", "such as my-space"),
        ("name: mbconv\n" + HEAD + CHOICE % "repeat: 2", "mbconv is a built-in space", "such as my-mbconv"),
        ("input: [3, 16]\nlayers: [conv]\n", "line 1, input: expected [channels, height, width]", "[3, 32, 32]"),
        ("input: [3, 16, 17]\nlayers: [conv]\n", "images are square, these have 16 x 17", "input: [3, 16, 16]"),
        ("classes: many\nlayers: [conv]\n", "line 1, classes: 'many'", "a whole number from 1"),
        (HEAD + "  - cnov: {out: 3}\n", "line 4, layers[0].cnov: there is no block 'cnov'", "did you mean 'conv'?"),
        (HEAD + "  - conv:\n      outt: 3\n", "line 5, layers[0].conv.outt: conv has no", "did you mean 'out'?"),
        (HEAD + "  - conv: {out: 3.5}\n", "layers[0].conv.out: 3.5 is not a whole number", "from 1 to 65536"),
        (HEAD + "  - conv: {out: {a: 1}}\n", "layers[0].conv.out: a mapping of a is not", "a whole number"),
        (HEAD + "  - conv: {kernel: 4}\n", "4 is not an odd number", "an odd number from 1 to 31"),
        (HEAD + "  - pool: {mode: maxx}\n", "'maxx' is not max or avg", "did you mean 'max'?"),
        (HEAD + "  - conv: {out: 3}\n    pool: {}\n", "expected one block, here is a mapping of conv, pool", "- conv:"),
        (HEAD + "  - identity\n", "identity is no block of its own", "id: identity"),
        (HEAD + "  - conv: {out: 3, out: 4}\n", "layers[0].conv.out is given twice", "leave one"),
        (HEAD + "  - choice: {among: {no: conv, b: pool}}\n", "the key no is no word to YAML", "in quotes: 'no'"),
        (HEAD + CHOICE % "out: 24", "id is identity and keeps the shape", "write repeat: 2 or more"),
        (HEAD + CHOICE % "stride: 2", "id is identity and keeps the shape", "leave id out"),
        (HEAD + CHOICE % "repeat: 0", "layers[0].choice.repeat: 0", "a whole number from 1 to 1000"),
        (HEAD + CHOICE % "strid: 2", "choice has no 'strid'", "did you mean 'stride'?"),
        (HEAD + "  - choice: {out: 3}\n", "choice needs among", "write among:"),
        (HEAD + "  - choice: {among: {a: conv}}\n", "a choice among 1", "two candidates or more"),
        (HEAD + "  - choice: {among: {a-b: conv, c: pool}}\n", "'a-b' is no name for a candidate", "letters"),
        (HEAD + "  - choice: {among: {a: conv, b: conv}}\n", "a and b are the same block", "leave one"),
        (HEAD + "  - choice: {among: {a: {conv: {out: 3}}, c: pool}}\n", "out is the same for all", "beside among"),
        (HEAD + "  - choice: {out: 8, among: {a: sep_conv, c: conv}}\n", "sep_conv keeps the 3 channels", "- conv: {"),
        (HEAD + "  - conv: {name: a}\n  - conv: {name: a}\n", "line 5, layers[1].conv.name: two layers", "otherwise"),
        (HEAD + "  - conv: {repeat: 3}\n  - classifier\n", "there is nothing to choose", "- choice"),
        (HEAD + "  - choice: {among: {a: conv, b: pool}}\n", "end with 1x3x16x16, not with 1x4", "the classifier"),
        (HEAD + "  - classifier\n  - conv\n", "line 5, layers[1]: the chain has 1x4 here", "before it"),
        (HEAD + "  - linear\n", "linear takes 1x1 positions, here is 1x3x16x16", "put the pool before it"),
        (HEAD + "  - torch: {out: 3}\n", "torch needs block: module:Class", "my_blocks:MyBlock"),
        (HEAD + "  - torch: ..:X\n", "'..:X' names no class", "module:Class"),
        (HEAD + "  - torch: nothere:X\n", "there is no nothere.py", "the module a file in"),
        (HEAD + "  - torch: own:God\n", "own has no class 'God'", "it has Good"),
        (HEAD + "  - torch: own:Narrow\n", "Narrow does not take in_channels", "def __init__(self, in_channels"),
        (HEAD + "  - torch: {block: 'own:Good', gian: 1}\n", "unexpected keyword argument 'gian'", "gian):"),
        (HEAD + "  - torch: {block: 'own:Good', gain: [1]}\n", "layers[0].torch.gain: a list", "into the module"),
        (HEAD + "  - torch: own:Raises\n", "torch.Raises cannot take 1x3x16x16: KeyError: 'inside'", "change"),
        (HEAD + "  - torch: own:Pair\n", "torch.Pair makes a tuple", "return one tensor"),
        (HEAD + "  - choice: {among: {a: conv, b: {torch: 'own:Halves'}}}\n", "'b' gives 1x3x8x8", "same width"),
    ],
)
def test_a_description_that_is_none_is_refused_with_line_value_and_mend(text: str, what: str, mend: str) -> None:
    Path("own.py").write_text(BLOCKS)
    with pytest.raises(UnasError) as caught:
        find_space(written(text))
    assert isinstance(caught.value, SpaceError)
    assert what in caught.value.what, caught.value.what
    assert mend in caught.value.mend, caught.value.mend


def test_a_file_that_is_not_there_is_answered_with_the_nearest() -> None:
    written("layers: []\n", "small.yaml")
    with pytest.raises(UnknownSpaceError, match=r"there is no file smal\.yaml") as caught:
        find_space("smal.yaml")
    assert caught.value.mend == "did you mean small.yaml?"
