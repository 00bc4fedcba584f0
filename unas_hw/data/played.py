"""Frames of a task as a data set, for all that looks at images: shapes, parity of exported files, calibration.

Random actions played them; the labels are these actions, so nothing can be learnt from them. Networks see them as
policies do: divided by 255.
"""

from __future__ import annotations

import numpy as np
import torch

from unas_hw.data.dataset import Dataset, Form, Split
from unas_hw.data.pixels import Memory
from unas_hw.tasks import find_task

ENVIRONMENTS, STEPS, EVERY = 16, 256, 8
"""The frames of one in ``EVERY`` steps are kept: neighbours are alike."""


def frames_of(name: str, seed: int) -> Dataset:
    """512 frames, a quarter of them as validation and a quarter as test part; raises as ``find_task``."""
    task = find_task(name)
    environments, rng = task.make(ENVIRONMENTS, seed, False), np.random.default_rng(seed)
    frames, actions = [], []
    for step in range(STEPS):
        action = rng.integers(task.actions, size=ENVIRONMENTS)
        if step % EVERY == 0:
            frames.append(environments.frames)
            actions.append(action)
        environments.step(action)
    environments.close()
    pixels, y = Memory(torch.from_numpy(np.concatenate(frames))), torch.from_numpy(np.concatenate(actions))
    channels = task.image_shape[0]
    mean, std = torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    cuts = order[: len(y) // 2], order[len(y) // 2 : len(y) * 3 // 4], order[len(y) * 3 // 4 :]
    train, valid, test = (Split(pixels, y[rows], rows=rows, form=Form(None, mean, std)) for rows in cuts)
    return Dataset(name, task.actions, train, valid, test, mean, std, origin=name, split_seed=seed, augmentation="none")
