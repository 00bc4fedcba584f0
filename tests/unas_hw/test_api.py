"""``import unas_hw`` itself: quick, lazy, complete and explained."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import unas_hw
from unas_hw.progress import Job, Step

ROOT = Path(__file__).parent.parent.parent


def fresh(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_the_import_takes_less_than_a_tenth_of_a_second_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, time; begin = time.perf_counter(); import unas_hw; took = time.perf_counter() - begin;"
        "print(took, *{name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pandas', 'rich', 'click'})"
    )
    answers = [fresh(script).split() for _ in range(5)]
    assert min(float(took) for took, *_ in answers) < 0.1
    assert [heavy for _, *heavy in answers] == [[]] * 5


def test_what_needs_no_torch_is_used_without_it() -> None:
    used = "unas_hw.errors.UnasError, unas_hw.Budget.parse('3ms@p90')"
    assert fresh(f"import sys, unas_hw; {used}; print('torch' in sys.modules)") == "False"


def test_all_names_are_there_and_listed_once() -> None:
    assert len(unas_hw.__all__) == len(set(unas_hw.__all__))
    assert {name for name in dir(unas_hw) if not name.startswith("_")} >= set(unas_hw.__all__)
    shown = fresh("from unas_hw import *; print(*sorted(name for name in dir() if not name.startswith('_')))")
    assert shown.split() == sorted(unas_hw.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = unas_hw.serch  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_function_stays_one_where_a_room_of_its_name_is_imported() -> None:
    rooms = ("search", "export", "verify", "spaces")
    imports = "; ".join(f"import unas_hw.{name}" for name in rooms)
    calls = ", ".join(f"type(unas_hw.{name}).__name__" for name in rooms)
    assert fresh(f"{imports}; print({calls})") == "function function function function"


@pytest.mark.parametrize("name", sorted(set(unas_hw.__all__) - {"errors"}))
def test_every_public_name_is_explained_and_typed(name: str) -> None:
    found = getattr(unas_hw, name)
    assert found.__doc__ and not found.__doc__.startswith(f"{name}("), name
    members = vars(found) if inspect.isclass(found) else {name: found}
    functions = [each for key, each in members.items() if inspect.isfunction(each) and not key.startswith("_")]
    for each in functions:
        assert each.__doc__ or name == "SearchSpace", f"{name}.{each.__name__}"  # whose names say it all
        assert "return" in each.__annotations__, f"{name}.{each.__name__}"
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters:
            assert f"{parameter}: " in found.__doc__ or name == "spaces", f"{name}({parameter})"


def test_budgets_are_written_as_they_are_read() -> None:
    for text in ("3ms@p90", "0.1234567ms@p50", "37.5%@p99"):
        budget = unas_hw.Budget.parse(text)
        assert unas_hw.Budget.parse(budget.text) == budget


def test_spaces_are_a_table() -> None:
    frame = unas_hw.spaces()
    assert frame.loc["nas_bench_201", "networks"] == 15625
    assert json.loads(frame[["classes"]].to_json())["classes"]["mbconv"] == 1000


def test_no_bar_is_shown_where_nobody_looks_on(capfd: pytest.CaptureFixture[str]) -> None:
    from unas_hw.api.running import follow

    def job() -> Job[int]:
        yield Step("stage", 1, 2, "a note")
        return 7

    assert follow(job(), str) == "7"
    assert capfd.readouterr() == ("", "")
    assert follow(job(), str, progress=False) == "7"
    assert capfd.readouterr() == ("", "")
    assert follow(job(), str, progress=True) == "7"
    seen = capfd.readouterr()
    assert seen.out == "" and "a note" in seen.err and "stage ..." in seen.err


@pytest.mark.slow
def test_a_notebook_has_a_bar_of_its_own_that_leaves_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd()))
    cell = nbformat.v4.new_code_cell(
        "from unas_hw.api.running import follow\n"
        "from unas_hw.progress import Step\n"
        "def job():\n"
        "    for number in range(3):\n"
        "        yield Step('stage', number, 3, f'note <{number}>')\n"
        "follow(job(), str)"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, timeout=120).execute()
    kinds = [out["output_type"] for out in notebook.cells[0]["outputs"]]
    assert kinds == ["display_data", "execute_result"]  # and no warning
    shown = notebook.cells[0]["outputs"][0]["data"]
    assert "note &lt;0&gt;" in shown["text/html"] and "note &lt;2&gt;" in shown["text/html"]
    assert "stage" not in shown["text/html"]
