"""Score: what FreeFlow and the proxies of the field say of networks, and how well that ranks known accuracies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from profilers.workload import NOTHING
from unas_hw.data import load_dataset, telling
from unas_hw.errors import ArchitectureError
from unas_hw.jobs.predict import said
from unas_hw.jobs.profile import space_for
from unas_hw.progress import Job, Step
from unas_hw.search.accuracies import averaged, read_accuracies
from unas_hw.space import Architecture, SearchSpace
from unas_hw.spaces.published import find_published_architecture
from unas_hw.zero_cost.flow import free_flow, fresh_supernet
from unas_hw.zero_cost.proxies import PROXIES, Batch, fresh_network
from unas_hw.zero_cost.ranking import correlations

NETWORKS, BATCH_SIZE = 10, 32
SCORES = ("freeflow", *PROXIES, "params", "macs")


def score_networks(
    architectures: Sequence[str] = (),
    *,
    space: str | None = None,
    networks: int | None = None,
    accuracies: str | None = None,
    column: str | None = None,
    dataset: str | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> Job[dict[str, Any]]:
    """Scores networks with their initial weights; nothing is trained.

    Args:
        architectures: As ``predict`` takes them; by default random ones, or those of ``accuracies``.
        space: By default the one that the first architecture names.
        networks: How many are drawn at random: of the space, or of the file's; all of the file's by default.
        accuracies: CSV or Parquet with a column ``arch`` or ``architecture`` and one of accuracies; of several rows of
            a network the mean counts.
        column: Of the accuracies; ``accuracy`` by default, or the only one there is.
        dataset: Whose first training images the batch has; random numbers and labels by default.
        image_size: Pixels, instead of those that the space is made for.
        seed: Of weights, random networks and random images.

    Returns:
        ``space``, ``input_shape``, ``batch`` (what the batch was), ``alpha``, ``networks`` (a score each, by name, in
        ``SCORES``; and ``accuracy``), ``macs_without`` (operations that MACs lack), ``correlations`` (by score, ``all``
        and ``best``; None without accuracies), ``accuracies`` (where networks have several: of how many the mean
        counts, and how far they spread).
    """
    rng = random.Random(seed)
    rows = None if accuracies is None else read_accuracies(accuracies, column)
    if rows is not None and architectures:
        raise ArchitectureError(
            f"the networks are those of {accuracies}", mend="leave out the architectures, or --accuracies"
        )
    given = dict.fromkeys(architectures if rows is None else [text for text, _ in rows])
    texts = {text: str(find_published_architecture(text) or text) for text in given}
    name = space or (said(next(iter(texts.values()))).get("space") if texts else None)
    found = space_for(name, dataset=dataset, image_size=image_size)
    networks_of = {text: _parsed(found, meant) for text, meant in texts.items()}
    known = None if rows is None else averaged((networks_of[text], accuracy) for text, accuracy in rows)
    parsed = [*known.mean] if known else [networks_of[text] for text in architectures]
    parsed = parsed or _drawn(found, networks or NETWORKS, rng)
    if known is not None and networks is not None and networks < len(parsed):
        parsed = rng.sample(parsed, networks)
    if known is not None and known.several:
        yield Step("accuracies", 1, 1, f"{accuracies}: {known.words}")
    yield Step("freeflow", 0, 1)
    flow = free_flow(found, fresh_supernet(found, seed))
    yield Step("freeflow", 1, 1)
    shares = flow.scores(found, np.array([found.indices(each) for each in parsed])).tolist()
    batch = yield from _batch(found, dataset, image_size, seed)
    scored: list[dict[str, Any]] = []
    for number, (architecture, share) in enumerate(zip(parsed, shares, strict=True)):
        yield Step("score", number, len(parsed))
        scored.append(
            {"architecture": str(architecture), "freeflow": share, **_scores(found, architecture, batch, seed)}
        )
        if known is not None:
            scored[-1]["accuracy"] = known.mean[architecture]
    yield Step("score", len(parsed), len(parsed))
    costs = (found.workload(each).cost for each in parsed)
    return {
        "space": found.origin,
        "input_shape": list(found.input_shape),
        "batch": f"{len(batch.x)} " + (f"images of {dataset}" if dataset else "random images with random labels"),
        "alpha": flow.alpha,
        "networks": scored,
        "macs_without": list(sum(costs, NOTHING).not_counted),
        "correlations": None if known is None else _correlations(scored),
        "accuracies": None if known is None else known.words or None,
    }


def _scores(space: SearchSpace, architecture: Architecture, batch: Batch, seed: int) -> dict[str, float]:
    network, cost = fresh_network(space, architecture, seed), space.workload(architecture).cost
    proxies = {name: score(network, batch) for name, score in PROXIES.items()}
    return proxies | {"params": cost.params, "macs": cost.macs}


def _correlations(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scores = {name: np.array([float(row[name]) for row in rows]) for name in SCORES}
    return correlations(scores, np.array([row["accuracy"] for row in rows]))


def _parsed(space: SearchSpace, text: str) -> Architecture:
    """An architecture of the space itself: a genotype may be one of a space with more operations."""
    architecture = space.parse(text)
    if architecture.space != space.name:
        raise ArchitectureError(
            f"{space.name} does not have all operations of {text!r}", mend=f"add --space '{architecture.space}'"
        )
    return architecture


def _drawn(space: SearchSpace, count: int, rng: random.Random) -> list[Architecture]:
    found: dict[Architecture, None] = {}
    for _ in range(100 * count):  # a space may have fewer
        found[space.draw(rng)] = None
        if len(found) == count:
            break
    return list(found)


def _batch(space: SearchSpace, dataset: str | None, image_size: int | None, seed: int) -> Job[Batch]:
    if dataset is None:
        return Batch.random(space, BATCH_SIZE, seed)
    data = load_dataset(dataset, image_size=image_size, seed=seed)
    yield from telling(data)
    train = data.train.first(BATCH_SIZE)
    return Batch(train.x, train.y, seed)
