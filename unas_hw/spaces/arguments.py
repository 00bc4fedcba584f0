"""What a function that makes networks is told, by the names of its parameters: one for one meaning."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unas_hw.errors import SpaceError
from unas_hw.spaces.user_code import MOST_CHANNELS

CLASSES, CHANNELS, SIZE = "classes", "channels", "image size"
CALL_IT = {CLASSES: "num_classes", CHANNELS: "in_channels", SIZE: "image_size"}
"""A name of each meaning that can be read in one way only."""
_CLEAR = {
    CLASSES: """classes numclasses nclasses nbclasses numclass nclass nbclass classnum classcount numberofclasses
    numlabels nlabels nblabels""",
    CHANNELS: """inchannels inchannel inchans inchan inch inputchannels inputchans numinputchannels ninputchannels
    numinchannels imagechannels imgchannels channelsin chin cin""",
    SIZE: "imagesize imgsize imageres imgres imageresolution imgresolution inputresolution",
}
"""In small letters without underscores: ``numClasses`` is ``num_classes``."""
_UNCLEAR = {
    CLASSES: "outputs numoutputs noutputs outputdim outputsize outdim outfeatures",
    CHANNELS: "channels numchannels nchannels nbchannels chans nchans",
    SIZE: "resolution",
}
"""What they mean where no other parameter has that meaning, and where they have to be given."""


@dataclass(frozen=True)
class Told:
    """The arguments of a call.

    Attributes:
        values: By parameter, in order.
        meant: By meaning, the parameter that has it.
    """

    positional: tuple[Any, ...] = field(repr=False)
    values: Mapping[str, Any]
    meant: Mapping[str, str]

    def call(self, function: Callable[..., Any]) -> Any:
        """What the function gives for them."""
        named = list(self.values.items())[len(self.positional) :]
        return function(*self.positional, **dict(named))

    def is_clear(self, meaning: str) -> bool:
        """Whether no parameter has that meaning that could have another."""
        return meaning not in self.meant or _plain(self.meant[meaning]) in _CLEAR[meaning].split()

    def words(self, name: str) -> str:
        """The call as Python writes it."""
        return f"{name}({', '.join(f'{each}={value!r}' for each, value in self.values.items())})"


def arguments(function: Callable[..., Any], name: str, given: Mapping[str, int]) -> Told:
    """What the function is told of the classes, channels and size of the images.

    Args:
        function: Or class.
        name: For people.
        given: By meaning.

    Raises:
        SpaceError: If it has a parameter without a default that means nothing, or two that could mean the same.
    """
    parameters = {
        each.name: each
        for each in inspect.signature(function).parameters.values()
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    meant: dict[str, str] = {}
    for meaning in given:
        if (found := _meaning(parameters, name, meaning)) is not None:
            meant[meaning] = found
    told = {word: _sized(parameters[word], meaning, given[meaning]) for meaning, word in meant.items()}
    for each in parameters.values():
        if each.default is each.empty and each.name not in told:
            wrapped = f"def build(classes, channels): return {name}(..., {each.name}=...)"
            raise SpaceError(
                f"nothing says what {each.name!r} of {name} is", mend=f"give it a default, or write {wrapped}"
            )
    before = [each for each in parameters.values() if each.kind is each.POSITIONAL_ONLY]
    while before and before[-1].name not in told:
        before.pop()
    positional = {each.name: told.get(each.name, each.default) for each in before}
    ordered = positional | {each: told[each] for each in parameters if each in told}
    return Told(tuple(positional.values()), ordered, meant)


def _meaning(parameters: Mapping[str, inspect.Parameter], name: str, meaning: str) -> str | None:
    """The parameter of that meaning."""
    fitting = {word: each for word, each in parameters.items() if _fits(each, meaning)}
    clear = [word for word in fitting if _plain(word) in _CLEAR[meaning].split()]
    if len(clear) > 1:  # the one that has to be given, if there is one
        clear = [word for word in clear if fitting[word].default is inspect.Parameter.empty] or clear
    unclear = [word for word, each in fitting.items() if _plain(word) in _UNCLEAR[meaning].split() and _asks(each)]
    found = clear or unclear
    if len(found) > 1:
        raise SpaceError(
            f"{' and '.join(found)} of {name} could both be the {meaning} of the images",
            mend=f"write def build({CALL_IT[meaning]}): return {name}({found[0]}=..., {found[1]}=...)",
        )
    return found[0] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "")


def _asks(parameter: inspect.Parameter) -> bool:
    """Whether it has to be given, or its default is as many channels as images have."""
    default = parameter.default
    return default is parameter.empty or _plain(parameter.name) in _UNCLEAR[CHANNELS].split()


def _fits(parameter: inspect.Parameter, meaning: str) -> bool:
    """Whether a parameter could be such a number by its default and annotation."""
    default, annotation = parameter.default, parameter.annotation
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if annotation is not parameter.empty and "str" in words and "int" not in words:
        return False
    if default is parameter.empty or default is None:
        return True
    if meaning == SIZE and isinstance(default, tuple | list):
        return len(default) == 2
    if isinstance(default, bool) or not isinstance(default, int):
        return False
    return meaning != CHANNELS or 1 <= default <= MOST_CHANNELS  # above it is a width of the network


def _sized(parameter: inspect.Parameter, meaning: str, value: int) -> Any:
    """Of a size the form that the parameter takes: a number, or height and width."""
    pair = isinstance(parameter.default, tuple | list) or "uple" in str(parameter.annotation)
    return (value, value) if meaning == SIZE and pair else value
