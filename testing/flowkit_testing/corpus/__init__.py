"""Workflows of all shapes, for whoever wants to try an engine or a storage on more than one."""

from __future__ import annotations

from flowkit_testing.corpus import arrivals, batches, chains, children, events, parallel, pipelines, sagas, side
from flowkit_testing.corpus.case import Case

CASES: tuple[Case, ...] = (
    *chains.CASES,
    *parallel.CASES,
    *children.CASES,
    *sagas.CASES,
    *side.CASES,
    *events.CASES,
    *arrivals.CASES,
    *batches.CASES,
    *pipelines.CASES,
)

__all__ = ["CASES", "Case"]
