"""A Python file becomes the space that it programs; whatever it raises is said with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unas_hw.errors import SpaceError
from unas_hw.spaces import find_space

FUNCTION = """
from unas_hw.spaces.building import Chain

IMAGE_SHAPE, CLASSES = (2, 9, 9), 6

def space(name, *, image_size, channels, classes, batch, precision):
    chain = Chain(name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    chain.choose("first", {"k3": chain.conv(4, kernel=3), "k5": chain.conv(4, kernel=5)})
    chain.fixed("classifier", chain.classifier(classes))
    return chain.space(classes)
"""
CLASSIFIER = '    chain.fixed("classifier", chain.classifier(classes))\n'
SUBCLASS = """
from unas_hw.spaces.nas_bench_201 import NasBench201
from unas_hw.space import SearchSpace

class Mine(SearchSpace):
    def __init__(self, name, *, image_size, channels, classes, batch, precision):
        self.inner = NasBench201(name, image_size=image_size, channels=channels, classes=classes, batch=batch, cells=1)
        self.name, self.precision = name, precision
        self.input_shape, self.classes = self.inner.input_shape, classes

    decisions = property(lambda self: self.inner.decisions)
    has_dead_operations = True

    def live(self, paths): return self.inner.live(paths)
    def usable(self, paths): return self.inner.usable(paths)
    def terms(self): return self.inner.terms()
    def workloads(self): return self.inner.workloads()
    def parts(self, architecture): return self.inner.parts(architecture)
    def network(self, architecture): return self.inner.network(architecture)
    def supernet(self): return self.inner.supernet()
"""


def written(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text)
    return name


def test_a_function_called_space_is_given_the_images_that_there_are() -> None:
    name = written(FUNCTION)
    assert find_space(name).input_shape == (1, 2, 9, 9) and find_space(name).classes == 6
    space = find_space(name, image_shape=(1, 8, 8), classes=3, batch=4, precision="float16")
    assert (space.title, space.classes, space.size) == ("mine@4x1x8x8:float16", 3, 2)
    assert space.origin == str(Path(name).resolve())


def test_a_subclass_of_search_space_is_enough() -> None:
    space = find_space(written(SUBCLASS, "cells.py"))
    assert (space.name, space.size, space.input_shape) == ("cells", 5**6, (1, 3, 32, 32))


def test_files_of_one_name_in_two_folders_are_two_spaces() -> None:
    found = []
    for folder, width in (("one", 4), ("two", 8)):
        Path(folder).mkdir()
        found.append(find_space(written(FUNCTION.replace("conv(4", f"conv({width}"), f"{folder}/mine.py")))
    assert [space.workloads()[0].op.attrs["out"] for space in found] == [4, 8]
    assert found[0].origin != found[1].origin
    assert "mine" not in sys.modules


def test_a_file_that_was_changed_is_executed_again_and_an_unchanged_one_is_not() -> None:
    Path("count.txt").write_text("")
    name = written(FUNCTION + "\nwith open('count.txt', 'a') as file:\n    file.write('x')\n")
    versions = [find_space(name).version for _ in range(3)]
    assert Path("count.txt").read_text() == "x" and len(set(versions)) == 1
    written(Path(name).read_text().replace("kernel=5", "kernel=7"))
    assert find_space(name).version != versions[0]
    assert Path("count.txt").read_text() == "xx"


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("x = (1\n", "line 1: SyntaxError: '(' was never closed", "runpy"),
        ("\n\nx = 1 / 0\n", "line 3: ZeroDivisionError: division by zero", "runpy"),
        ("import nothere_at_all\n", "line 1: ModuleNotFoundError", "put it into mine.py itself"),
        (FUNCTION.replace("(2, 9, 9)", "9"), "mine.py: TypeError: cannot unpack", "runpy"),
        ("x = 1\n", "no subclass of SearchSpace and no function space", "def space(name, *, image_size"),
        ("def space(name, **settings):\n    return 3\n", "space gives int, no SearchSpace", "return chain.space("),
        ("def space():\n    return 3\n", "TypeError: space() got an unexpected keyword", "runpy"),
        (FUNCTION.replace("4, kernel=5", "8, kernel=5"), "line 8: first: 'k3' gives 1x4x9x9 and", "same width"),
        (FUNCTION.replace(CLASSIFIER, ""), "line 9: the networks of mine end with 1x4x9x9", "end with the classifier"),
        (FUNCTION.replace("Chain(name", "Chain('a b'"), "'a b' is no name for a space", "such as my-space"),
    ],
)
def test_what_the_file_raises_is_said_with_its_line(text: str, what: str, mend: str) -> None:
    with pytest.raises(SpaceError) as caught:
        find_space(written(text))
    assert what in caught.value.what, caught.value.what
    assert mend in caught.value.mend, caught.value.mend


def test_a_file_that_failed_is_not_remembered_as_a_module() -> None:
    before = set(sys.modules)
    with pytest.raises(SpaceError):
        find_space(written("raise RuntimeError('no')\n"))
    assert set(sys.modules) - before == set()


def test_nas_bench_macro_is_programmed_as_it_was_published() -> None:
    space = find_space(str(Path(__file__).parents[2] / "examples" / "nas_bench_macro.py"))
    for name, parameters in {"00000000": 387_882, "00000001": 791_594}.items():
        network = space.network(space.architecture([int(choice) for choice in name]))
        assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert space.size == 3**8
