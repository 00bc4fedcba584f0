"""Layers, functions and values of a traced network as Python source."""

from __future__ import annotations

import inspect
import json
import keyword
import math
import operator
import re
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from unas_hw.export.tracing import blamed
from unas_hw.ops.depthwise import DepthwiseConv2d

WIDTH = 88
"""Of a line, as formatters have it by default."""
INDENT = " " * 8
_INFIX: dict[Any, str] = {
    operator.add: " + ",
    operator.sub: " - ",
    operator.mul: " * ",
    operator.truediv: " / ",
    operator.floordiv: " // ",
    operator.mod: " % ",
    operator.pow: "**",
    operator.matmul: " @ ",
    operator.eq: " == ",
    operator.ne: " != ",
    operator.lt: " < ",
    operator.le: " <= ",
    operator.gt: " > ",
    operator.ge: " >= ",
    operator.and_: " & ",
    operator.or_: " | ",
}
_BOTH_WAYS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")
_EMPTY = inspect.Parameter.empty


@final
class Spelling:
    """A graph of a network as the lines of a module's ``__init__`` (``layers``) and ``forward`` (``steps``, on ``x``).

    Layers and parameters are in the order of their use; ``output`` is the expression of what is returned, ``weights``
    the state of the module that is written.

    Raises:
        ExportError: If a layer or function cannot be written down, naming the module that it is in.
    """

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        self.layers: list[str] = []
        self.steps: list[str] = []
        self.output = "x"
        self.weights: dict[str, Tensor] = {}
        self._network = network
        self._called = {node.target for node in graph.find_nodes(op="call_module")}
        self._names: dict[str, str] = {}
        self._expressions: dict[fx.Node, str] = {}
        self._title = ""
        self._titles: dict[int, str] = {}
        last = {source: node for node in graph.nodes for source in node.all_input_nodes}
        for node in graph.nodes:
            within = [*node.meta.get("nn_module_stack", {}).values()]
            part, kind = within[0] if within else ("", type(network))
            self._title = f"{part}: {kind.__name__}" if part not in self._called | {""} else ""
            path = within[-1][0] if within else ""
            with blamed(network.get_submodule(path), path):
                self._write(node, [source for source in node.all_input_nodes if last[source] is node])

    def _write(self, node: fx.Node, done: list[fx.Node]) -> None:
        """A node's line; ``done`` are the inputs that nothing needs any more: their variables are free."""
        if node.op == "placeholder":
            self._expressions[node] = "x"
        elif node.op == "get_attr":
            self._expressions[node] = self._tensor(str(node.target))
        elif node.op == "output":
            self.output = self._text(node.args[0])
        else:
            expression, arguments = self._call(node)
            freed = [self._expressions.pop(source) for source in done]
            if node.users:
                taken = set(self._expressions.values())
                names = (*freed, "x", "y", "z", *(f"x{number}" for number in range(1, len(taken) + 2)))
                name = next(each for each in names if each.isidentifier() and each not in taken)
                self._expressions[node] = name
                expression = f"{name} = {expression}"
            self._add(self.steps, expression, arguments)

    def _add(self, lines: list[str], expression: str, arguments: list[str] | None) -> None:
        """A statement, under the part of the network that it belongs to."""
        if self._titles.get(id(lines), "") != self._title:
            lines += [*([""] if lines else []), *([f"{INDENT}# {self._title}"] if self._title else [])]
            self._titles[id(lines)] = self._title
        lines += _wrapped(expression, arguments)

    def _call(self, node: fx.Node) -> tuple[str, list[str] | None]:
        """What is called with what; or an expression, and None."""
        target: Any = node.target
        if target is operator.getitem:
            return f"{self._text(node.args[0])}[{_index(node.args[1], self._text)}]", None
        if target is getattr:
            return f"{self._text(node.args[0])}.{node.args[1]}", None
        arguments, keywords = [self._text(each) for each in node.args], dict(node.kwargs)
        if target in _INFIX:
            return _INFIX[target].join(arguments), None
        if target is operator.neg:
            return f"-{arguments[0]}", None
        if node.op == "call_module":
            callee = f"self.{self._layer(target)}"
        elif node.op == "call_method":
            callee = f"{arguments.pop(0)}.{target}"
        else:
            callee, defaults = _function(target), _defaults(target)
            keywords = {
                key: value
                for key, value in keywords.items()
                if not key.startswith("_") and (key not in defaults or value != defaults[key])
            }
        return callee, [*arguments, *(f"{key}={self._text(value)}" for key, value in keywords.items())]

    def _layer(self, path: str) -> str:
        """The attribute of a layer, made where it is first asked for."""
        if path not in self._names:
            module = self._network.get_submodule(path)
            name = self._named(path)
            self._add(self.layers, f"self.{name} = nn.{_kind(module).__name__}", _arguments(module))
            self.weights |= {f"{name}.{key}": _copied(value) for key, value in module.state_dict().items()}
        return self._names[path]

    def _tensor(self, path: str) -> str:
        """The expression of a parameter or buffer: a layer's own, or one of the model's."""
        owner, _, attribute = path.rpartition(".")
        if owner in self._called:
            return f"self.{self._layer(owner)}.{attribute}"
        if path not in self._names:
            tensor, name = operator.attrgetter(path)(self._network), self._named(path)
            made = f"torch.zeros({self._text(tuple(tensor.shape))}"
            made += ")" if tensor.dtype.is_floating_point else f", dtype={tensor.dtype})"
            if isinstance(tensor, nn.Parameter):
                self._add(self.layers, f"self.{name} = nn.Parameter", [made])
            else:
                self._add(self.layers, "self.register_buffer", [f'"{name}"', made])
            self.weights[name] = _copied(tensor)
        return f"self.{self._names[path]}"

    def _named(self, path: str) -> str:
        """A new attribute for a path: its dots replaced, and no name that a module has already."""
        name = re.sub(r"\W+", "_", path).strip("_")
        name = name if name[:1].isalpha() else f"layer{name}"
        while name in (*self._names.values(), "training") or keyword.iskeyword(name) or hasattr(nn.Module, name):
            name += "_"
        self._names[path] = name
        return name

    def _text(self, value: Any) -> str:
        return _text(value, self._expressions)


def _kind(module: nn.Module) -> type[nn.Module]:
    """The class of ``torch.nn`` that a layer is of."""
    kind: type[nn.Module] = nn.Conv2d if isinstance(module, DepthwiseConv2d) else type(module)
    known: object = getattr(nn, kind.__name__, None)
    if known is not kind:
        raise ValueError("torch.nn has no such layer")
    return kind


def _arguments(module: nn.Module) -> list[str]:
    """Of the constructor that makes a layer like this one, but for its weights; defaults are left out."""
    kind, positional, keywords = _kind(module), list[Any](), dict[str, Any]()
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(module, name, parameter.default)
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            value = value is not None  # bias=True makes a parameter, bias=False none
        value = _single(name, value)
        if parameter.default is _EMPTY and name != "kernel_size" and not keywords:
            positional.append(value)
        elif value != _single(name, parameter.default):
            keywords[name] = value
    for said in ({key: value for key, value in keywords.items() if key != "bias"}, keywords):
        if _makes(kind, positional, said, module):
            return [*(_text(value) for value in positional), *(f"{key}={_text(value)}" for key, value in said.items())]
    raise ValueError("its attributes do not say how it was made")


def _makes(kind: type[nn.Module], positional: list[Any], keywords: dict[str, Any], module: nn.Module) -> bool:
    """Whether the constructor makes a layer like this one."""
    try:
        with torch.device("meta"):
            return _settings(kind(*positional, **keywords)) == _settings(module)
    except Exception:  # whatever a constructor that is only tried raises: it is another one then
        return False


def _settings(module: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Size]]:
    own = {key: _single(key, value) for key, value in vars(module).items() if key[0] != "_" and key != "training"}
    return own, {key: value.shape for key, value in module.state_dict().items()}


def _single(name: str, value: Any) -> Any:
    """3 of (3, 3), where that is the same to a layer."""
    same = name in _BOTH_WAYS and isinstance(value, tuple) and value.count(value[0]) == len(value)
    return value[0] if same else value


def _function(target: Callable[..., Any]) -> str:
    """The public name of a function, as the file imports it."""
    for prefix, namespace in (("F", functional), ("torch", torch), ("math", math)):
        for name, value in vars(namespace).items():
            if value is target and not name.startswith("_"):
                return f"{prefix}.{name}"
    raise ValueError(f"{getattr(target, '__name__', target)} is no public function of torch")


def _defaults(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return {name: each.default for name, each in inspect.signature(target).parameters.items()}
    except ValueError:  # built in: it says nothing
        return {}


def _text(value: Any, expressions: dict[fx.Node, str] | None = None) -> str:
    """A value as source; of a node its expression."""
    if isinstance(value, fx.Node):
        return (expressions or {})[value]
    if isinstance(value, tuple | list):
        inner = ", ".join(_text(each, expressions) for each in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or type(value) in (bool, int, float, torch.dtype, torch.memory_format):
        return str(value)
    raise ValueError(f"{value!r} cannot be written down")


def _index(value: Any, text: Callable[[Any], str]) -> str:
    """What stands between the brackets."""
    if isinstance(value, tuple) and value:
        return ", ".join(_index(each, text) for each in value) + "," * (len(value) == 1)
    if isinstance(value, slice):
        ends = ["" if each is None else text(each) for each in (value.start, value.stop, value.step)]
        return ":".join(ends[: 2 + bool(ends[2])])
    return "..." if value is ... else text(value)


def _wrapped(expression: str, arguments: list[str] | None) -> list[str]:
    """A statement in as few lines as formatters take."""
    if arguments is None:
        return [f"{INDENT}{expression}"]
    inner = ", ".join(arguments)
    line = f"{INDENT}{expression}({inner})"
    if len(line) <= WIDTH:
        return [line]
    each = [f"{INDENT}    {inner}"]
    if len(each[0]) > WIDTH:
        each = [f"{INDENT}    {argument}," for argument in arguments]
    return [f"{INDENT}{expression}(", *each, f"{INDENT})"]


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
