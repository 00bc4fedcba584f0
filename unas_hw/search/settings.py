"""SearchSettings: what a search of any method is told. Nothing here imports PyTorch, as help is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unas_hw.budget import CONFIDENCE, LIMITS
from unas_hw.search.method import MethodConfig
from unas_hw.settings import BUDGETS, DATASETS, RUN, TABLE, TRAINING, refuse_unknown, setting, settings_in, typed

if TYPE_CHECKING:
    from latency_tables.home import Target
    from unas_hw.training import Hardware


Config = TypeVar("Config", bound=MethodConfig)


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What a search and a pruning are both told; None means that they find out."""

    budget: str | None = None
    config: MethodConfig
    compile: bool = False
    dataset: str = setting(
        "digits",
        f"{DATASETS}.",
        option="--dataset",
        metavar="DATA",
    )
    device: str | None = setting(
        None,
        "cpu, gpu, ssh://HOST, adb://SERIAL, sim:NAME, a name of devices add, or a published table: pixel1.",
        option="--device",
        metavar="DEVICE",
    )
    run: str | None = setting(
        None, "Run folder under runs/; by default named after the settings.", option="--run", metavar="NAME", group=RUN
    )
    seed: int = setting(0, "Of everything random.", option="--seed", group=RUN)
    confidence: float = setting(
        CONFIDENCE, "With which the network is within the budget.", option="--confidence", group=BUDGETS
    )
    macs_budget: str | None = setting(
        None, "Multiply-accumulates of an image, such as 600M.", option="--macs-budget", metavar="N", group=BUDGETS
    )
    params_budget: str | None = setting(None, "Such as 4M.", option="--params-budget", metavar="N", group=BUDGETS)
    image_size: int | None = setting(
        None, "Resize images to this.", low=1, option="--image-size", metavar="PIXELS", group=BUDGETS
    )
    batch: int = setting(1, "Images at a time that latencies are for.", low=1, option="--batch", group=TABLE)
    runtime: str | None = setting(
        None,
        "onnxruntime, openvino, ncnn, litert, torch, torch+compile, tensorrt.",
        option="--runtime",
        metavar="NAME",
        group=TABLE,
    )
    threads: int | None = setting(
        None, "Threads that a network may use.", low=1, option="--threads", metavar="N", group=TABLE
    )
    precision: str | None = setting(
        None,
        "fp32, fp16, bf16, int8 or tf32: in which the network is computed.",
        option="--precision",
        metavar="NAME",
        group=TABLE,
        read="profilers.precision:parse_precision",
    )
    table: str | Path | None = setting(
        None,
        "A path, the beginning of a table's name, or an address; by default the last profiled that fits.",
        option="--table",
        metavar="TABLE",
        group=TABLE,
    )
    train_on: str | None = setting(
        None,
        "cpu, gpu or gpu:1; by default a GPU where there is one.",
        option="--train-on",
        metavar="D",
        group=TRAINING,
    )
    bf16: bool | None = setting(
        None, "Products in bfloat16; by default on a GPU.", option="--bf16/--no-bf16", group=TRAINING
    )
    fresh: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """Whose table."""
        from latency_tables.home import Target

        return Target(device=self.device, runtime=self.runtime, threads=self.threads, precision=self.precision)

    @property
    def limits(self) -> dict[str, str]:
        """Budgets beside the latency's, by names of ``unas_hw.budget.LIMITS``."""
        texts = {name: getattr(self, f"{name.replace('-', '_')}_budget", None) for name in LIMITS}
        return {name: text for name, text in texts.items() if text is not None}

    @property
    def hardware(self) -> Hardware:
        """What is trained on; raises ``MissingDeviceError`` where that is not here."""
        from unas_hw.training import Hardware

        return Hardware.choose(self.train_on, self.bf16, compile=self.compile)


@dataclass(frozen=True, kw_only=True)
class SearchSettings(CommonSettings):
    """What a search is told; None means that it finds out.

    Attributes:
        method: Its name; by default that of the configuration.
        config: Of the method; ``seed`` and ``method`` in it are those from here.
        ending: Of the method that it ends with, where there is one.
        fresh: Whether the run folder is a new one, numbered where its name is taken.
        told: All of this as options and sections; lies in the run folder as ``config.yaml``.
    """

    budget: str | None = setting(
        None,
        "80ms, 80ms@p90, or 50% of the way from the fastest to the slowest network.",
        option="--latency-budget",
        metavar="BUDGET",
    )
    space: str | None = setting(
        None,
        "A name of unas-hw spaces ('mbconv?width=0.5'), or your own .yaml or .py file.",
        option="--space",
        metavar="SPACE",
    )
    method: str = setting("", "How to search; groups below say what each is told.", option="--method", metavar="NAME")
    preset: str | None = setting(
        None,
        "Settings and the space as published: unas-cifar, unas-imagenet, unas-imagenet-mbconv.",
        option="--preset",
        metavar="NAME",
    )
    energy_budget: str | None = setting(
        None, "Such as 40mJ; needs a table with energies.", option="--energy-budget", metavar="ENERGY", group=BUDGETS
    )
    peak_memory_budget: str | None = setting(
        None,
        "Activations of the largest operation, such as 2MB.",
        option="--peak-memory-budget",
        metavar="BYTES",
        group=BUDGETS,
    )
    compile: bool = setting(False, "Train with torch.compile.", option="--compile/--no-compile", group=TRAINING)
    memory_budget: str | None = setting(
        None,
        "What searching may take, such as 2GB: measured, then kept.",
        option="--memory-budget",
        metavar="BYTES",
        group=TRAINING,
    )
    sampled_paths: bool = setting(
        False, "For that budget, run fewer candidates a step if it has to be.", option="--sampled-paths", group=TRAINING
    )
    finals: str | None = setting(
        None,
        "Train so many at the end: 16, a time as 30m, none.",
        option="--finals",
        metavar="N|TIME",
    )
    workers: int | None = setting(
        None,
        "Processes of one thread that train networks; by default as many as there are cores, 8 at most.",
        low=1,
        option="--workers",
        metavar="N",
        group=TRAINING,
    )
    ray: str | None = setting(
        None, "A Ray cluster that trains them, or local.", option="--ray", metavar="ADDRESS", group=TRAINING
    )
    ending: MethodConfig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", self.method or self.config.section)
        same = {"seed": self.seed, "method": self.method}
        for name in ("config", "ending"):
            if (config := getattr(self, name)) is not None:
                known = {each.name for each in fields(config)}
                object.__setattr__(self, name, replace(config, **{k: v for k, v in same.items() if k in known}))

    @property
    def ends(self) -> str:
        """What ``--finals`` says, or would: ``none`` for methods without, and for what is searched as published."""
        ends_so = (self.ending or self.config).has_finals and self.preset is None
        return self.finals or ("auto" if ends_so else "none")

    @property
    def supernet(self) -> MethodConfig | None:
        """Of the method that trains a supernet on images: this one, or the one that it ends with."""
        return self.config if self.config.ends_with is None and self.config.shares_weights else self.ending


def options_of(config: object) -> dict[str, str]:
    """Names of the fields of a configuration by those of their options, as files have them: ``latency-budget``."""
    return {
        option.lstrip("-"): name
        for name, _, known in settings_in(config)
        if known.option is not None
        for option in known.option.split("/")[:1]
    }


def as_told(settings: CommonSettings, *configs: MethodConfig) -> dict[str, Any]:
    """``config.yaml``: every option that has a value, and every hyper-parameter; as a file it gives the same again."""
    options = {option: getattr(settings, name) for option, name in options_of(settings).items()}
    sections = {
        each.section: {name: value for name, value in asdict(each).items() if name not in ("seed", "method")}
        for each in configs
    }
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value is not None
    } | sections


def replaced(config: Config, section: Mapping[str, Any], flat: Mapping[str, Any]) -> Config:
    """With what its section and then options say of it; checked."""
    known = {f"{config.section}.{name}": name for name, _, _ in settings_in(config)}
    values: dict[str, Any] = {}
    for name, value in section.items():
        refuse_unknown(key := f"{config.section}.{name}", [*known])
        values[name] = typed(type(config), name, value, key)
    for name in flat.keys() & set(options_of(config).values()):
        values[name] = typed(type(config), name, flat[name], name.replace("_", "-"))
    found = replace(config, **values)
    found.check()
    return found
