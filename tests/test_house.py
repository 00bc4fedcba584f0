"""The house itself: packaging, errors, what an import brings in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from profilers.errors import UnasError

ROOT = Path(__file__).parent.parent
ROOMS = ("profilers", "latency_tables", "unas_hw", "cli")
INSTALLED_AS = {"cli": "unas_hw_cli"}


def packages_in_tree() -> set[str]:
    found = set()
    for room in ROOMS:
        for init in (ROOT / room).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join((INSTALLED_AS.get(parts[0], parts[0]), *parts[1:])))
    return found


def modules() -> Iterator[ModuleType]:
    for room in ROOMS:
        package = importlib.import_module(room)
        for info in pkgutil.walk_packages(package.__path__, f"{room}."):
            yield importlib.import_module(info.name)


def test_the_packages_listed_by_hand_are_those_of_the_tree() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(told) == packages_in_tree()


def test_the_wheel_holds_every_module_the_published_tables_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"  # what an earlier build left behind in the checkout would come along
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        seen = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set()
    for room in ROOMS:
        for path in (
            *(ROOT / room).rglob("*.py"),
            *(ROOT / room).glob("py.typed"),
            *(ROOT / room / "published").glob("*.jsonl"),
        ):
            parts = path.relative_to(ROOT).parts
            expected.add("/".join((INSTALLED_AS.get(parts[0], parts[0]), *parts[1:])))
    assert seen == expected
    assert {"latency_tables/published/pixel1.jsonl", "unas_hw/py.typed"} <= seen


def test_every_error_class_is_a_unas_error() -> None:
    found = {
        value
        for module in modules()
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Exception) and value.__module__.split(".")[0] in ROOMS
    }
    assert UnasError in found
    strangers = {error for error in found if not issubclass(error, UnasError)} - {
        importlib.import_module("cli.main").Failure  # click's, made of one of ours
    }
    assert not strangers


@pytest.mark.parametrize("room", ["profilers", "latency_tables", "unas_hw"])
def test_the_tree_in_the_docstring_names_every_error(room: str) -> None:
    module = importlib.import_module(f"{room}.errors")
    own = {
        name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    }
    assert module.__doc__ is not None
    assert not {name for name in own if name not in module.__doc__}


def test_an_error_cannot_be_raised_without_a_mend() -> None:
    with pytest.raises(TypeError, match="mend"):
        UnasError("something is wrong")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("module", ["cli.main", "profilers.registry", "profilers.errors"])
def test_starting_up_brings_in_nothing_heavy(module: str) -> None:
    script = (
        f"import sys, {module}; print(*(n for n in ('torch', 'numpy', 'pandas', 'onnx', 'rich') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def test_every_command_in_the_help_exists_and_says_what_it_does() -> None:
    main = importlib.import_module("cli.main")
    for name in main.COMMANDS:
        command = importlib.import_module(f"cli.commands.{name}").command
        assert command.help, name
    files = {path.stem for path in (ROOT / "cli" / "commands").glob("*.py")} - {"__init__"}
    assert files == set(main.COMMANDS)
