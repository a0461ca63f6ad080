"""The engine: images in, tickets or answers out."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ctypes import byref, c_char_p, c_size_t, c_void_p
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Union, overload

from . import _abi
from ._abi import library
from ._errors import CollageError, Overloaded
from ._image import Described, ImageLike, Layout
from ._settings import Duration, nanoseconds, toml
from ._ticket import Answer, Ticket, answer_of

#: A file, or a file's bytes.
ModelLike = Union[str, "os.PathLike[str]", bytes]

#: Images that `classify` has in flight for each worker, unless it is told otherwise: two full batches of the default size.
_IN_FLIGHT = 16


def now() -> float:
    """This moment in seconds, on the clock of `due`: `time.monotonic()` where the system has CLOCK_MONOTONIC."""
    return float(library.collage_now_ns()) / 1e9


class Engine:
    """A running engine. Use it with `with`, or close it: that answers what was accepted, and ends its threads.

    Without a model it serves the digits that are embedded in the library. Every keyword is a setting of the same name in the
    settings file (README: Settings), where times may also be seconds; what is None is left to `config`, a TOML file, and
    then to its default. `model` and `collage` are files or their bytes. A list of devices has the workers dealt over them.
    Environment variables are not read. Opening blocks while models are read and every worker loads them.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        model: ModelLike | None = None,
        *,
        collage: ModelLike | None = None,
        arch: str | None = None,
        device: str | Sequence[str] | None = None,
        workers: int | None = None,
        collage_workers: int | None = None,
        policy: str | None = None,
        grid: str | None = None,
        release: Duration | None = None,
        deadline: Duration | None = None,
        top: int | None = None,
        queue: int | None = None,
        max_batch: int | None = None,
        batch_wait: Duration | None = None,
        group_wait: Duration | None = None,
        budget: float | None = None,
        accuracy_budget: float | None = None,
        accuracy_drop: float | None = None,
        min_confidence: float | None = None,
        stragglers: Sequence[str] | None = None,
        seed: int | None = None,
        config: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        settings |= dict(
            workers=workers, collage_workers=collage_workers, policy=policy, grid=grid, release=release, deadline=deadline,
            top=top, queue=queue, max_batch=max_batch, batch_wait=batch_wait, group_wait=group_wait, budget=budget,
            accuracy_budget=accuracy_budget, accuracy_drop=accuracy_drop, min_confidence=min_confidence,
            stragglers=stragglers, seed=seed,
        )  # fmt: skip
        options = _abi.Options()
        if isinstance(model, bytes):
            options.model_data, options.model_size = _address(model), len(model)
            options.arch = None if arch is None else _abi.text(arch)
        else:
            settings |= dict(model=model, arch=arch)
        if isinstance(collage, bytes):
            options.collage_data, options.collage_size = _address(collage), len(collage)
        else:
            settings |= dict(collage=collage)
        if device is not None:
            names = [device] if isinstance(device, str) else list(device)
            options.devices = (c_char_p * len(names))(*map(_abi.text, names))
            options.device_count = len(names)
        if config is not None:
            options.config_path = _abi.text(config)
        options.toml = _abi.text(toml(settings))
        handle = c_void_p()
        _abi.check(library.collage_engine_open(byref(options), byref(handle)))
        assert handle.value is not None
        self._running = _Running(handle.value)
        # Also at the interpreter's end, while its threads can still take the last answers.
        self._finalizer = weakref.finalize(self, self._running.end)

    def submit(
        self,
        image: ImageLike,
        *,
        layout: Layout = "hwc",
        values: tuple[float, float] | None = None,
        name: str | None = None,
        release: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
        due: float | None = None,
    ) -> Ticket:
        """Submits one image, without waiting for anything: a full queue raises `Overloaded` at once.

        The image is a path, the bytes of a JPEG, PNG, WebP or BMP, an array, or a tensor with `__dlpack__` on the CPU or on
        CUDA. Arrays are (H, W), (H, W, C), or with `layout="chw"` (C, H, W), of 1 or 3 channels; any strides. Their values
        go from black to white through `values`: by default 0 to 255 for uint8, 0 to 1 for floats. Normalised tensors are
        not images. On CUDA only packed uint8 (H, W, 3) is taken; it is read where it lies, and freed once no run needs it.

        `release` and `deadline` are seconds from now, or from `due`, a moment of `now()` at which the request should have
        been submitted: so that a load generator which falls behind hides no waiting. `name` is for messages.
        """
        request = _request(release, deadline, due)
        return self._running.submit(Described(image, layout, values, name), request)

    @overload
    def classify(
        self, images: Iterable[ImageLike], *, return_exceptions: Literal[False] = False, in_flight: int | None = None,
        layout: Layout = "hwc", values: tuple[float, float] | None = None,
        release: float | timedelta | None = None, deadline: float | timedelta | None = None,
    ) -> list[Answer]: ...  # fmt: skip

    @overload
    def classify(
        self, images: Iterable[ImageLike], *, return_exceptions: bool, in_flight: int | None = None,
        layout: Layout = "hwc", values: tuple[float, float] | None = None,
        release: float | timedelta | None = None, deadline: float | timedelta | None = None,
    ) -> list[Answer | Exception]: ...  # fmt: skip

    def classify(
        self,
        images: Iterable[ImageLike],
        *,
        return_exceptions: bool = False,
        in_flight: int | None = None,
        layout: Layout = "hwc",
        values: tuple[float, float] | None = None,
        release: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
    ) -> list[Any]:
        """The answers to many images, in their order: a list of what `submit` takes, or one array (N, H, W, C).

        At most `in_flight` images are in the engine at once (16 a worker), so that the last one's deadline does not begin
        with the first one's. The first failure is raised and the rest given up; with `return_exceptions` failures take
        their answers' places.
        """
        _refuse_single(images)
        request = _request(release, deadline, None)
        room = in_flight or _IN_FLIGHT * len(self.stats()["workers"])
        flight = _Flight(self._running, return_exceptions)
        try:
            for image in images:
                if flight.size() >= room:
                    flight.land()
                flight.launch(image, request, layout, values)
            return flight.land_all()
        finally:
            flight.abandon()

    def stats(self) -> dict[str, Any]:
        """What the engine has done so far: the counts of C's collage_stats and, for each of `workers`, of
        collage_worker_stats, with device names and last failures. Works after `close` too."""
        length = c_size_t()
        capacity = 4096
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            status = library.collage_engine_stats_json(self._running.handle, buffer, capacity, byref(length))
            if status != _abi.BUFFER_TOO_SMALL:
                _abi.check(status)
                stats: dict[str, Any] = json.loads(buffer.value)
                return stats
            capacity = length.value + 256  # counters may have grown when it is asked again

    @property
    def labels(self) -> list[str]:
        """The names of the model's classes."""
        return list(self._running.labels)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._running.closed

    def close(self) -> None:
        """Takes no more requests, waits until every accepted one is settled, and ends the engine's threads.

        Tickets, statistics and labels stay. Closing twice does nothing. Not from a ticket's callback.
        """
        self._running.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<collage.Engine, {state}, {len(self._running.labels)} classes>"


class _Running:
    """What the library's threads and an engine's end need; it holds no reference to the `Engine`, which can so be found
    unused. Each request with a ticket is in `pending` until the library has called back."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.closed = False
        self.labels = _labels(handle)
        self.pending: dict[int, Ticket] = {}
        self.numbers = itertools.count(1)
        self.callback = _abi.Callback(self.settled)

    def submit(self, described: Described, request: _abi.Request) -> Ticket:
        number, ticket, handle = next(self.numbers), Ticket(), c_void_p()
        request.callback, request.user_data = self.callback, number
        self.pending[number] = ticket
        with described as image:
            status = library.collage_submit(self.handle, byref(image), byref(request), byref(handle))
            if status != _abi.OK:
                del self.pending[number]
                raise _abi.last_error(status)
            described.taken()
        ticket._handle = handle.value
        return ticket

    def settled(self, number: int, handle: int | None, status: int, answer: Any) -> None:
        """The library's callback, on a thread of its own."""
        ticket = self.pending.pop(number)
        try:
            if not ticket.set_running_or_notify_cancel():
                return  # cancelled
            if status == _abi.OK:
                ticket.set_result(answer_of(answer.contents, self.labels))
            else:
                ticket.set_exception(_abi.last_error(status))
        except BaseException as error:  # a defect here must not leave somebody waiting
            with suppress(BaseException):
                ticket.set_exception(error)
            raise
        finally:
            library.collage_ticket_free(handle)

    def close(self) -> None:
        _abi.check(library.collage_engine_close(self.handle, None))
        self.closed = True

    def end(self) -> None:
        """Closes and frees the engine, when nobody has it any more."""
        if not self.closed:
            warnings.warn("a collage.Engine was not closed; use it with `with`", ResourceWarning, stacklevel=2)
        if library.collage_engine_free(self.handle) == _abi.IN_CALLBACK:
            # The last reference went away on the engine's own thread, which cannot wait for itself.
            threading.Thread(target=library.collage_engine_free, args=(self.handle,), name="collage-end").start()


class _Flight:
    """The images of one `classify`: their tickets are waited for by the caller's own thread, which is faster than through
    a callback."""

    def __init__(self, running: _Running, keep_errors: bool) -> None:
        self.running = running
        self.keep_errors = keep_errors
        self.outcomes: list[Answer | Exception] = []
        self.waiting: deque[int | Exception] = deque()

    def size(self) -> int:
        return len(self.waiting)

    def launch(self, image: ImageLike, request: _abi.Request, layout: Layout, values: tuple[float, float] | None) -> None:
        while True:
            try:
                self.waiting.append(self._submit(image, request, layout, values))
                return
            except Overloaded:
                if not self.waiting:
                    raise  # it is others who fill the queue
                self.land()
            except (CollageError, OSError, TypeError, ValueError) as error:
                if not self.keep_errors:
                    raise
                self.waiting.append(error)
                return

    def _submit(self, image: ImageLike, request: _abi.Request, layout: Layout, values: tuple[float, float] | None) -> int:
        described, handle = Described(image, layout, values, None), c_void_p()
        with described as raw:
            status = library.collage_submit(self.running.handle, byref(raw), byref(request), byref(handle))
            _abi.check(status)
            described.taken()
        assert handle.value is not None
        return handle.value

    def land(self) -> None:
        """Waits for the oldest."""
        ticket = self.waiting.popleft()
        if isinstance(ticket, Exception):
            self.outcomes.append(ticket)
            return
        raw = _abi.Answer()
        try:
            status = library.collage_ticket_wait(ticket, _abi.FOREVER, byref(raw))
            if status == _abi.OK:
                self.outcomes.append(answer_of(raw, self.running.labels))
            elif self.keep_errors:
                self.outcomes.append(_abi.last_error(status))
            else:
                raise _abi.last_error(status)
        finally:
            library.collage_ticket_free(ticket)

    def land_all(self) -> list[Answer | Exception]:
        while self.waiting:
            self.land()
        return self.outcomes

    def abandon(self) -> None:
        """Frees what was not waited for, which cancels it."""
        for ticket in self.waiting:
            if not isinstance(ticket, Exception):
                library.collage_ticket_free(ticket)
        self.waiting.clear()


def _request(release: float | timedelta | None, deadline: float | timedelta | None, due: float | None) -> _abi.Request:
    return _abi.Request(
        release_ns=nanoseconds("release", release),
        deadline_ns=nanoseconds("deadline", deadline),
        due_at_ns=0 if due is None else round(due * 1e9),
    )


def _refuse_single(images: Any) -> None:
    """An image where many are wanted would be taken apart into rows, or into bytes."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise TypeError(f"images is one {type(images).__qualname__}; expected a list of images")
    shape = getattr(images, "shape", None)
    if shape is not None and len(shape) != 4:
        raise ValueError(f"images is an array of shape {tuple(shape)}; expected (N, H, W, C), or a list of images")


def _labels(handle: int) -> list[str]:
    count, label = c_size_t(), c_char_p()
    _abi.check(library.collage_engine_class_count(handle, byref(count)))
    labels = []
    for index in range(count.value):
        _abi.check(library.collage_engine_class_label(handle, index, byref(label)))
        labels.append((label.value or b"").decode())
    return labels


def _address(data: bytes) -> int | None:
    return ctypes.cast(c_char_p(data), c_void_p).value
