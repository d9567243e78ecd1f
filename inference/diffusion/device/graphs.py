"""CUDA graphs of steps: launched the first time, captured the second, replayed from then on."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch


class StepGraphs:
    """The captured steps of a runner, by what they launch."""

    def __init__(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._seen: set[Hashable] = set()
        self._version: Hashable = None
        # Graphs are replayed one after another and keep no results, so they share their memory.
        self._pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def keep(self, version: Hashable) -> None:
        """Drop what was captured with buffers of another version."""
        if version != self._version:
            self.clear()
            self._version = version

    def clear(self) -> None:
        """Drop everything: a buffer or weight that was captured has moved."""
        self._graphs.clear()
        self._seen.clear()

    def run(self, key: Hashable, step: Callable[[], None], *, is_captured: bool) -> None:
        """Run `step`, or replay what it launched under this key.

        The first time, kernels are compiled and libraries choose theirs, which cannot be captured.
        """
        if not is_captured:
            step()
        elif key in self._graphs:
            self._graphs[key].replay()
        elif key not in self._seen:
            self._seen.add(key)
            step()
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                step()
            self._graphs[key] = graph
            graph.replay()
