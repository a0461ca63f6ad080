"""Requests and their answers.

A ticket is a `concurrent.futures.Future`: `asyncio.wrap_future(ticket)`, `concurrent.futures.wait` and `as_completed` take
it as it is. It is settled by a thread of the engine, and holds a copy of the answer, so that nothing of the library needs to
outlive the request.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from . import _abi
from ._abi import library

#: Who answered: the request's own base run, its tile of a collage, or a further run of the base model.
Source = Literal["base", "collage", "copy", "parity"]
#: What a request's base run and its backup did not share.
Independence = Literal["shared worker", "other worker", "other device"]

_SOURCES: tuple[Source, ...] = ("base", "collage", "copy", "parity")
_INDEPENDENCE: tuple[Independence, ...] = ("shared worker", "other worker", "other device")


@dataclass(frozen=True, slots=True)
class Score:
    """A class and its probability, 0 to 1."""

    class_index: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one image. `class_index`, `label` and `confidence` are those of the first of `top`."""

    class_index: int
    label: str
    #: The best class's probability, 0 to 1.
    confidence: float
    #: The best classes, best first: as many as the setting `top` says.
    top: tuple[Score, ...]
    source: Source
    #: Seconds from submission, or from when the request was due.
    latency: float
    #: The request's number within its engine.
    request: int
    #: The number of the collage's run that answered, and the place in it, row by row; None if none did.
    collage: int | None
    tile: int | None
    #: Index of the worker that ran it.
    worker: int
    independence: Independence


def answer_of(raw: _abi.Answer, labels: list[str]) -> Answer:
    """Copies an answer out of the library."""
    by_collage = raw.tile != _abi.NO_TILE
    scores = raw.top[: raw.top_count]
    return Answer(
        class_index=raw.class_index,
        label=labels[raw.class_index],
        confidence=raw.confidence,
        top=tuple(Score(s.class_index, labels[s.class_index], s.score) for s in scores),
        source=_SOURCES[raw.source],
        latency=raw.latency_ns / 1e9,
        request=raw.request,
        collage=raw.collage if by_collage else None,
        tile=raw.tile if by_collage else None,
        worker=raw.worker,
        independence=_INDEPENDENCE[raw.independence],
    )


class Ticket(Future[Answer]):
    """A submitted request.

    `result(timeout)` waits for the answer, or raises why there is none: `DeadlineExceeded`, `ServingError`, or
    `concurrent.futures.CancelledError`. Callbacks added by `add_done_callback` are called by a thread of the engine, one at
    a time: a callback that blocks delays the others' news, and none may close its engine.
    """

    _handle: int | None = None  # of the library; freed by whoever settles the ticket

    def cancel(self) -> bool:
        """Gives the request up, unless it is settled. Work that has not begun is then not done."""
        if not super().cancel():
            return False
        if self._handle is not None:
            # If the answer came in between, the handle is gone, which is all that is wanted.
            library.collage_ticket_cancel(self._handle)
        return True
