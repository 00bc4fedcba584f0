"""torch.fx with an example beside it: whoever traces a network knows what every node of its graph gives."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn


class Recorder(fx.Tracer):
    """Runs every node on the example while it traces; other arguments than the first have their defaults.

    ``values`` are what each node gave. While one is being run (``runs``) nothing is traced.
    """

    proxy_buffer_attributes = True

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.values: dict[fx.Node, Any] = {}
        self.runs = False
        self._example = example

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return forward(*args, **kwargs) if self.runs else self._enter(m, forward, args, kwargs)

    def _enter(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Traces a module, or stops at it."""
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val if self.runs else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        self.runs = True
        try:
            self.values[node] = self._run(node)
        finally:
            self.runs = False
        return node

    def _run(self, node: fx.Node) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        if node.op == "placeholder":
            return args[0] if args else self._example
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        return args[0] if node.op == "output" else run(node, self.root, args, kwargs)


def run(node: fx.Node, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the node's function, method or module gives for these arguments."""
    if node.op == "call_function":
        return node.target(*args, **kwargs)  # type: ignore[operator]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return root.get_submodule(str(node.target))(*args, **kwargs)
