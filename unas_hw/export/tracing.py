"""What a network does in evaluation mode, as a graph of layers and functions: torch.fx with an example beside it.

Sizes of images are numbers then, and what is decided by them is decided; the number of images stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, dtype, fx, nn

from unas_hw.errors import ExportError
from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.recorder import Recorder

_LEFT_OUT = (nn.Identity, nn.modules.dropout._DropoutNd)


def trace(network: nn.Module, example: Tensor) -> fx.Graph:
    """The nodes of a network in evaluation mode, without what does nothing there, such as dropout.

    The example has another number of images than where the graph is tried.

    Raises:
        ExportError: If it decides by values or by the number of images, or does not take one tensor and give one.
    """
    tracer = _Tracer(example)
    with blamed(network, ""):
        graph = tracer.trace(network)
    for node in reversed(graph.nodes):
        if node.kwargs.get("training") is False and "dropout" in getattr(node.target, "__name__", ""):
            node.replace_all_uses_with(node.args[0])
        elif node.target != "size" or node.users:
            continue
        graph.erase_node(node)
    inputs = graph.find_nodes(op="placeholder")
    (output,) = graph.output_node().args
    if len(inputs) != 1 or not (isinstance(output, fx.Node) and isinstance(tracer.values[output], Tensor)):
        raise refused(network, "", "it does not take one tensor and give one")
    return graph


@contextmanager
def blamed(module: nn.Module, path: str) -> Iterator[None]:
    """Turns what goes wrong with a module of the network into an ``ExportError`` that names it; the innermost."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise refused(module, path, reason) from error


def refused(module: nn.Module, path: str, reason: str) -> ExportError:
    """The error that names the module at that path and why it cannot be written."""
    return ExportError(
        f"{type(module).__name__}{f' ({path})' if path else ''} cannot be written as plain PyTorch: {reason}",
        mend="unas-hw export --format torch-export",
    )


@final
class _Proxy(fx.Proxy):
    """What the network sees of a tensor: its sizes are those of the example, but for the number of images."""

    tracer: _Tracer

    @property
    def shape(self) -> tuple[Any, ...]:
        first, *others = self.tracer.values[self.node].shape
        constant = self.node.op == "get_attr"
        return (first if constant else self.tracer.create_proxy("call_method", "size", (self, 0), {}), *others)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    @property
    def ndim(self) -> int:
        return int(self.tracer.values[self.node].ndim)

    @property
    def dtype(self) -> dtype:
        found: dtype = self.tracer.values[self.node].dtype
        return found


@final
class _Tracer(Recorder):
    """Leaves out what does nothing in evaluation mode; knows all sizes but the number of images."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, DepthwiseConv2d) or super().is_leaf_module(m, module_qualified_name)

    def _enter(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(m, _LEFT_OUT):
            return args[0]
        with blamed(m, self.path_of_module(m)):
            return super()._enter(m, forward, args, kwargs)

    def proxy(self, node: fx.Node) -> _Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        raise ValueError("what it does depends on the values of a tensor or the number of images")

    def iter(self, obj: Any) -> Iterator[Any]:
        value = self.values[obj.node]
        return iter([obj[place] for place in range(len(value))]) if isinstance(value, tuple) else super().iter(obj)
