"""Iterators that run side by side, each in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import TypeVar

Name = TypeVar("Name")
Item = TypeVar("Item")


def in_parallel(iterators: Mapping[Name, Iterator[Item]]) -> Iterator[tuple[Name, Item | Exception]]:
    """What they yield, as it comes, with the name of whose it is; an exception is the last of an iterator.

    Closed before the end, all of them are stopped after the item that they are at.
    """
    found: queue.SimpleQueue[tuple[Name, Item | Exception | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def run(name: Name, iterator: Iterator[Item]) -> None:
        try:
            for item in iterator:
                found.put((name, item))
                if stop.is_set():
                    return
        except Exception as error:  # whoever takes the items decides
            found.put((name, error))
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # what it has open, here and now
            found.put((name, None))

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in iterators.items()]
    for thread in threads:
        thread.start()
    left = len(threads)
    try:
        while left:
            name, item = found.get()
            if item is None:
                left -= 1
            else:
                yield name, item
    finally:
        stop.set()
        for thread in threads:
            thread.join()
