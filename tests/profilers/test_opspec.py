"""An OpSpec is a value: equal specs have equal keys, a key is read back as the spec that it was made of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers.errors import OpSpecError, UnasError
from profilers.opspec import OpSpec

names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8)
words = st.from_regex(r"[a-z][a-z_.-]{0,7}", fullmatch=True).filter(lambda word: word not in ("inf", "nan"))
attributes = st.dictionaries(names, st.integers() | st.floats(allow_nan=False) | words, max_size=5)
shapes = st.lists(st.integers(0, 4096), min_size=1, max_size=5).map(tuple)
specs = st.builds(OpSpec, words, attributes, shapes, st.sampled_from(["float32", "float16", "int8"]))


def test_the_key_names_the_attributes_in_alphabetical_order() -> None:
    spec = OpSpec("mbconv", {"stride": 2, "out": 40, "kernel": 5, "expand": 3}, (1, 24, 112, 112))
    assert spec.key == "mbconv[expand=3,kernel=5,out=40,stride=2]@1x24x112x112:float32"


def test_the_order_in_which_attributes_were_given_does_not_matter() -> None:
    one = OpSpec("conv", {"kernel": 3, "out": 8}, (1, 3, 8, 8))
    other = OpSpec("conv", {"out": 8, "kernel": 3}, (1, 3, 8, 8))
    assert one == other
    assert {one: "found"}[other] == "found"


@pytest.mark.parametrize(
    "other",
    [
        OpSpec("convolution", {"kernel": 3}, (1, 3, 8, 8)),
        OpSpec("conv", {"kernel": 5}, (1, 3, 8, 8)),
        OpSpec("conv", {"kernel": 3}, (2, 3, 8, 8)),
        OpSpec("conv", {"kernel": 3}, (1, 3, 8, 8), "float16"),
    ],
)
def test_whatever_differs_makes_another_spec_and_another_key(other: OpSpec) -> None:
    spec = OpSpec("conv", {"kernel": 3}, (1, 3, 8, 8))
    assert spec != other
    assert spec.key != other.key


@given(specs)
def test_a_key_is_read_back_as_the_same_spec(spec: OpSpec) -> None:
    read = OpSpec.from_key(spec.key)
    assert read == spec
    assert hash(read) == hash(spec)
    assert read.key == spec.key
    assert {name: type(value) for name, value in read.attrs.items()} == {
        name: type(value) for name, value in spec.attrs.items()
    }


@given(st.dictionaries(names, st.from_regex(r"[^\[\],=@]{1,8}", fullmatch=True), max_size=3))
def test_words_that_look_like_numbers_keep_their_spelling(attrs: dict[str, Any]) -> None:
    key = OpSpec("conv", attrs, (1, 3)).key
    assert OpSpec.from_key(key).key == key


@pytest.mark.parametrize("text", ["007", "1e3", "1_000", "+1", " 1"])
def test_only_a_number_as_it_would_be_written_is_read_as_a_number(text: str) -> None:
    assert OpSpec.from_key(f"conv[a={text}]@1x3:float32").attrs["a"] == text


def test_attributes_cannot_be_changed() -> None:
    given_attrs: dict[str, Any] = {"kernel": 3}
    spec = OpSpec("conv", given_attrs, (1, 3, 8, 8))
    given_attrs["kernel"] = 5
    assert spec.attrs["kernel"] == 3
    attrs: Any = spec.attrs
    with pytest.raises(TypeError):
        attrs["kernel"] = 7


@pytest.mark.parametrize(
    "key",
    [
        "",
        "conv",
        "conv[kernel=3]",
        "conv[kernel=3]@1x3x8x8",
        "conv[kernel=3]@:float32",
        "conv[kernel=3]@1x3x:float32",
        "conv[kernel=3]@1xax8:float32",
        "conv[kernel=3@1x3:float32",
        "[kernel=3]@1x3:float32",
        "conv[kernel=3]@1x3:float32 ",
        "con v[kernel=3]@1x3:float32",
        "conv[kernel]@1x3:float32",
        "conv[,]@1x3:float32",
        "conv[a=b=c]@1x3:float32",
        "conv[=3]@1x3:float32",
    ],
)
def test_a_key_of_another_form_is_refused_with_the_form_to_write(key: str) -> None:
    with pytest.raises(OpSpecError) as caught:
        OpSpec.from_key(key)
    assert repr(key) in caught.value.what
    assert "kind[name=value,...]@NxCxHxW:dtype" in caught.value.mend


@given(st.text(max_size=40) | st.from_regex(r"\w*\[[\w=,.]*\]?@?[\dx]*:?\w*", fullmatch=True))
def test_any_text_is_a_key_or_a_value_error(text: str) -> None:
    try:
        spec = OpSpec.from_key(text)
    except ValueError:
        return
    assert OpSpec.from_key(spec.key) == spec


def test_the_example_in_the_mend_is_a_key() -> None:
    with pytest.raises(UnasError) as caught:
        OpSpec.from_key("?")
    example = caught.value.mend.rpartition(" ")[2]
    assert OpSpec.from_key(example).key == example


@pytest.mark.parametrize("attrs", [{"a": "x=y"}, {"a,b": 1}, {"a": "x]"}, {"[a": 1}, {"a": "x@1"}])
def test_an_attribute_that_would_break_the_key_is_refused(attrs: dict[str, Any]) -> None:
    with pytest.raises(OpSpecError, match="is not the key"):
        OpSpec("conv", attrs, (1, 3, 8, 8))


def test_an_attribute_given_twice_is_refused() -> None:
    with pytest.raises(OpSpecError, match="twice"):
        OpSpec.from_key("conv[a=1,a=2]@1x3:float32")


@pytest.mark.parametrize(("kind", "shape", "dtype"), [("co nv", (1,), "f"), ("conv", (-1,), "f"), ("conv", (1,), "")])
def test_kind_shape_and_type_have_to_be_readable_too(kind: str, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(OpSpecError):
        OpSpec(kind, {}, shape, dtype)


def test_specs_are_equal_where_their_keys_are() -> None:
    whole, real, word = (OpSpec("conv", {"a": value}, (1,)) for value in (1, 1.0, "1"))
    assert whole == word and hash(whole) == hash(word)
    assert whole != real


def test_numel_counts_the_elements_of_the_input() -> None:
    assert OpSpec("conv", {}, (2, 3, 4, 5)).numel == 120
