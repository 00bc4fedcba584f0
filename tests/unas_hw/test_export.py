"""Every format has its precisions, batches and files; what it has not is refused with the way round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from profilers.agent.engine import Array
from profilers.errors import UnitError, UnknownNameError
from profilers.registry import find_runtime
from unas_hw.errors import ExportError
from unas_hw.export import FORMATS, Options, find_format
from unas_hw.export.batches import Batches
from unas_hw.export.manifest import SUFFIX, Manifest, digest, find_manifest, loadable, manifests
from unas_hw.spaces.chain import ChainSpace


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        ("onnxruntime", "onnx"),
        ("torch+compile", "torch-export"),
        ("tensorrt", "tensorrt"),
        ("ncnn", "ncnn"),
        ("simulated", "onnx"),
        (None, "onnx"),
    ],
)
def test_without_a_name_the_format_is_the_one_that_the_tables_runtime_runs(runtime: str | None, name: str) -> None:
    assert find_format(None, runtime).name == name


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no format is called 'caffe'") as caught:
        find_format("caffe")
    assert all(name in caught.value.mend for name in FORMATS)
    with pytest.raises(UnknownNameError) as caught:
        find_format("tensort")
    assert "did you mean 'tensorrt'?" in caught.value.mend


@pytest.mark.parametrize(
    ("text", "least", "most"), [("1", 1, 1), ("8", 8, 8), ("dynamic:2-64", 2, 64), ("dynamic", 1, 1024)]
)
def test_batches_are_read_and_written_alike(text: str, least: int, most: int) -> None:
    found = Batches.parse(text)
    assert (found.least, found.most, found.dynamic) == (least, most, least < most)
    assert Batches.parse(str(found)) == found
    assert (found.best(1), found.best(3), found.best(10_000)) == (least, min(max(3, least), most), most)


@pytest.mark.parametrize("text", ["0", "-1", "many", "dynamic:8-2", "dynamic:4-4", "dynamic:0-4", "1.5", ""])
def test_what_is_no_batch_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="batch") as caught:
        Batches.parse(text)
    assert "--batch dynamic:1-64" in caught.value.mend


def _options(precision: str = "float32", batches: str = "1", **told: object) -> Options:
    def images() -> Iterator[Array]:
        return (np.random.default_rng(n).standard_normal((8, 3, 8, 8)).astype(np.float32) for n in range(4))

    return Options(precision=precision, batches=Batches.parse(batches), images=images, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "said", "mend"),
    [
        ("ncnn", _options("int8"), "have no int8", "--precision fp32, fp16"),
        ("litert", _options("bfloat16"), "have no bf16", "--format onnx, tensorrt, openvino, torch, torch-export"),
        ("ncnn", _options(batches="dynamic:1-8"), "one batch only, not dynamic:1-8", "--batch 1"),
        ("torch-export", _options(opset=18), "--opset is for onnx, tensorrt, openvino", "leave --opset out"),
        ("litert", _options(normalise=([0.5], [0.5])), "--preprocess is for onnx", "leave --preprocess out"),
    ],
)
def test_what_a_format_has_not_is_refused_with_what_has_it(name: str, options: Options, said: str, mend: str) -> None:
    with pytest.raises(ExportError, match=said) as caught:
        FORMATS[name].refuse(options)
    assert mend in caught.value.mend


@pytest.fixture
def network(space: ChainSpace) -> nn.Module:
    return space.network(space.architecture((1, 0, 1))).eval()


def _outputs(path: Path, name: str, x: torch.Tensor, folder: Path, precision: str = "float32") -> torch.Tensor:
    runtime = find_runtime(FORMATS[name].runtimes[0])
    return torch.from_numpy(runtime.load(loadable(FORMATS[name], path, folder), 1, precision).run(x.numpy()))


@pytest.mark.parametrize("name", ["onnx", "openvino", "ncnn", "torch-export"])
def test_a_file_gives_the_outputs_of_the_network(
    name: str, space: ChainSpace, network: nn.Module, tmp_path: Path
) -> None:
    fmt = FORMATS[name]
    path = tmp_path / f"model{fmt.suffix}"
    fmt.write(network, space.input_shape, path, _options())
    assert all(each.is_file() for each in fmt.files(path))
    x = torch.randn(space.input_shape)
    seen = _outputs(path, name, x, tmp_path)
    torch.testing.assert_close(seen, network(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch-export"])
def test_a_file_of_any_batch_takes_the_first_and_the_last(
    name: str, space: ChainSpace, network: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / f"model{FORMATS[name].suffix}"
    FORMATS[name].write(network, space.input_shape, path, _options(batches="dynamic:1-5"))
    for batch in (1, 5):
        x = torch.randn(batch, *space.input_shape[1:])
        torch.testing.assert_close(_outputs(path, name, x, tmp_path), network(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "precision"), [("onnx", "float16"), ("onnx", "int8"), ("openvino", "int8")])
def test_pixels_are_normalised_inside_the_file_in_every_precision(name: str, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    shape, mean, std = (1, 3, 8, 8), torch.linspace(0.4, 0.6, 3), torch.linspace(0.2, 0.3, 3)
    plain, inside = (tmp_path / f"{each}{FORMATS[name].suffix}" for each in ("plain", "inside"))
    FORMATS[name].write(network, shape, plain, _options(precision))
    FORMATS[name].write(network, shape, inside, _options(precision, normalise=(mean.tolist(), std.tolist())))
    pixels = torch.randint(0, 256, shape).float()
    x = (pixels / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    expected = _outputs(plain, name, x, tmp_path)
    torch.testing.assert_close(_outputs(inside, name, pixels, tmp_path), expected, atol=1e-2, rtol=1e-2)
    assert not torch.allclose(_outputs(plain, name, pixels, tmp_path), expected, atol=0.2)


@pytest.mark.parametrize("opset", [11, 17, 18, 22, 24])
def test_the_opset_is_the_one_that_was_asked_for(
    opset: int, space: ChainSpace, network: nn.Module, tmp_path: Path
) -> None:
    FORMATS["onnx"].write(network, space.input_shape, tmp_path / "model.onnx", _options(batches="dynamic", opset=opset))
    model = onnx.load(tmp_path / "model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)
    x = torch.randn(3, *space.input_shape[1:])
    seen = _outputs(tmp_path / "model.onnx", "onnx", x, tmp_path)
    torch.testing.assert_close(seen, network(x).detach(), atol=1e-5, rtol=1e-5)


def test_a_file_says_where_it_comes_from(space: ChainSpace, network: nn.Module, tmp_path: Path) -> None:
    options = _options(metadata={"architecture": "chain:x", "table_hash": "abc"})
    FORMATS["onnx"].write(network, space.input_shape, tmp_path / "model.onnx", options)
    properties = {each.key: each.value for each in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert properties == {"architecture": "chain:x", "table_hash": "abc"}
    FORMATS["torch-export"].write(network, space.input_shape, tmp_path / "model.pt2", options)
    said = {"unas-hw.json": ""}
    torch.export.load(str(tmp_path / "model.pt2"), extra_files=said)
    assert json.loads(said["unas-hw.json"]) == properties


# --- the manifest -----------------------------------------------------------------------------------------------------


def _manifest(folder: Path, name: str = "model.xml") -> Manifest:
    path = folder / name
    files = FORMATS["openvino"].files(path)
    for each in files:
        each.write_text(each.name)
    found = Manifest(
        format="openvino",
        precision="float32",
        batches="1",
        opset=20,
        input_shape=[1, 3, 8, 8],
        normalised_inside=False,
        files={each.name: digest(each) or "" for each in files},
        run="runs/one",
        architecture="chain:a",
    )
    found.save(path)
    return found


def test_any_file_of_an_artifact_leads_to_its_manifest(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path)
    for name in ("model.xml", "model.bin", f"model.xml{SUFFIX}", ""):
        assert find_manifest(tmp_path / name) == (tmp_path / "model.xml", manifest)
    assert manifests(tmp_path) == [tmp_path / f"model.xml{SUFFIX}"]


def test_files_that_changed_or_are_gone_are_named(tmp_path: Path) -> None:
    manifest, path = _manifest(tmp_path), tmp_path / "model.xml"
    assert manifest.changed(path) == []
    path.write_text("model.xmk")
    assert manifest.changed(path) == ["model.xml"]
    (tmp_path / "model.bin").unlink()
    assert manifest.changed(path) == ["model.xml", "model.bin"]


def test_a_file_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign.onnx").write_bytes(b"x")
    with pytest.raises(ExportError, match=r"no manifest in .* tells of foreign\.onnx") as caught:
        find_manifest(tmp_path / "foreign.onnx")
    assert "foreign.onnx.manifest.json" in caught.value.mend
    with pytest.raises(ExportError, match="there is no "):
        find_manifest(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "caffe"}', "\x00\xff"])
def test_a_damaged_manifest_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / f"model.onnx{SUFFIX}").write_text(content, encoding="latin-1")
    with pytest.raises(ExportError, match="is no manifest of an artifact"):
        find_manifest(tmp_path / "model.onnx")


@pytest.mark.parametrize(("field", "value"), [("format", "caffe"), ("batches", "many"), ("files", {})])
def test_a_manifest_with_an_impossible_field_is_named(field: str, value: object, tmp_path: Path) -> None:
    _manifest(tmp_path)
    path = tmp_path / f"model.xml{SUFFIX}"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ExportError, match="is no manifest of an artifact"):
        find_manifest(tmp_path / "model.xml")
