"""The C interface as ctypes sees it: the library, its structs, its functions.

Everything here mirrors include/collage.h, field by field, under the same names; tests/test_abi.py compares the two. Nothing
else in the package knows an offset or a function's signature. A call through ctypes lets go of the interpreter's lock, so
that other threads run while one waits.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from ._errors import CollageError, error_class

#: Of the header that this file mirrors.
ABI_MAJOR, ABI_MINOR = 0, 1

OK = 0
OVERLOADED = 400
PENDING = 605
BUFFER_TOO_SMALL = 607
IN_CALLBACK = 608

#: Zero itself, where 0 would leave a setting to its default.
NONE = -1
#: Wait as long as it takes.
FOREVER = 2**63 - 1
#: In a tensor's stream: the data is there already.
READY = -1

ENCODED, U8, F16, F32 = range(4)
HWC, CHW = range(2)
HOST, CUDA = range(2)
#: `tile` of an answer that no collage gave.
NO_TILE = 2**32 - 1


class Struct(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Options(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("toml", c_char_p),
        ("config_path", c_char_p),
        ("model_path", c_char_p),
        ("model_data", c_void_p),
        ("model_size", c_size_t),
        ("arch", c_char_p),
        ("collage_path", c_char_p),
        ("collage_data", c_void_p),
        ("collage_size", c_size_t),
        ("devices", POINTER(c_char_p)),
        ("device_count", c_size_t),
        ("policy", c_char_p),
        ("grid", c_char_p),
        ("stragglers", c_char_p),
        ("workers", c_int64),
        ("collage_workers", c_int64),
        ("queue", c_int64),
        ("max_batch", c_int64),
        ("top_k", c_int64),
        ("batch_wait_ns", c_int64),
        ("group_wait_ns", c_int64),
        ("release_ns", c_int64),
        ("deadline_ns", c_int64),
        ("budget", c_double),
        ("accuracy_budget", c_double),
        ("accuracy_drop", c_double),
        ("min_confidence", c_double),
        ("seed", c_uint64),
    ]


class Image(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("size", c_size_t),
        ("type", c_uint32),
        ("layout", c_uint32),
        ("dimensions", c_uint32),
        ("memory", c_uint32),
        ("shape", c_int64 * 4),
        ("strides", c_int64 * 4),
        ("low", c_float),
        ("high", c_float),
        ("device_index", c_int32),
        ("reserved", c_int32),
        ("stream", c_int64),
        ("release", c_void_p),
        ("release_context", c_void_p),
        ("name", c_char_p),
    ]


class Score(ctypes.Structure):
    _fields_ = [("class_index", c_uint32), ("score", c_float), ("label", c_char_p)]


class Answer(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("request", c_uint64),
        ("class_index", c_uint32),
        ("confidence", c_float),
        ("label", c_char_p),
        ("top", POINTER(Score)),
        ("top_count", c_size_t),
        ("latency_ns", c_int64),
        ("collage", c_uint64),
        ("tile", c_uint32),
        ("source", c_uint32),
        ("independence", c_uint32),
        ("worker", c_uint32),
    ]


#: void (*)(user_data, ticket, status, answer)
Callback = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int32, POINTER(Answer))


class Request(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("release_ns", c_int64),
        ("deadline_ns", c_int64),
        ("release_at_ns", c_int64),
        ("deadline_at_ns", c_int64),
        ("due_at_ns", c_int64),
        ("callback", Callback),
        ("user_data", c_void_p),
    ]


#: Function, what it returns, what it takes. Handles are c_void_p: names that nothing is read through.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "collage_abi_version": (c_uint32, []),
    "collage_version": (c_char_p, []),
    "collage_status_string": (c_char_p, [c_int32]),
    "collage_last_error": (c_char_p, []),
    "collage_last_status": (c_int32, []),
    "collage_last_error_can_retry": (c_int32, []),
    "collage_now_ns": (c_int64, []),
    "collage_engine_open": (c_int32, [POINTER(Options), POINTER(c_void_p)]),
    "collage_image_from_dlpack": (c_int32, [c_void_p, c_int32, c_uint32, POINTER(Image)]),
    "collage_submit": (c_int32, [c_void_p, POINTER(Image), POINTER(Request), POINTER(c_void_p)]),
    "collage_ticket_wait": (c_int32, [c_void_p, c_int64, POINTER(Answer)]),
    "collage_ticket_cancel": (c_int32, [c_void_p]),
    "collage_ticket_free": (c_int32, [c_void_p]),
    "collage_engine_stats_json": (c_int32, [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)]),
    "collage_engine_class_count": (c_int32, [c_void_p, POINTER(c_size_t)]),
    "collage_engine_class_label": (c_int32, [c_void_p, c_size_t, POINTER(c_char_p)]),
    "collage_engine_close": (c_int32, [c_void_p, c_void_p]),
    "collage_engine_free": (c_int32, [c_void_p]),
}


def library_path() -> Path:
    """The library that is loaded: COLLAGE_LIBRARY names another than the package's own."""
    given = os.environ.get("COLLAGE_LIBRARY")
    if given:
        return Path(given)
    name = {"win32": "collage.dll", "darwin": "libcollage.dylib"}.get(sys.platform, "libcollage.so")
    return Path(__file__).parent / name


def load(path: Path) -> ctypes.CDLL:
    """Opens the library and declares its functions. One with another binary interface is refused."""
    if not path.is_file():
        raise ImportError(
            f"{path} is not there: install a wheel of collage-inference (`pip install ./python` in the repository builds "
            "one), or name a built libcollage in COLLAGE_LIBRARY"
        )
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"{path} has no function {name}: it is no libcollage, or an older one") from None
        function.restype, function.argtypes = result, arguments
    version = library.collage_abi_version()
    if version >> 16 != ABI_MAJOR or version & 0xFFFF < ABI_MINOR:
        raise ImportError(
            f"{path} has the binary interface {version >> 16}.{version & 0xFFFF}; expected {ABI_MAJOR}.{ABI_MINOR} or a "
            f"later one of {ABI_MAJOR}"
        )
    return library


library = load(library_path())


def last_error(status: int) -> CollageError:
    """The exception for a status that a call of this thread has just returned."""
    message = (library.collage_last_error() or library.collage_status_string(status)).decode()
    return error_class(status)(status, message, bool(library.collage_last_error_can_retry()))


def check(status: int) -> None:
    """Raises unless a call of this thread succeeded."""
    if status != OK:
        raise last_error(status)


def text(value: str | os.PathLike[str]) -> bytes:
    """Text for C: a zero inside would cut it short in silence."""
    encoded = os.fspath(value).encode()
    if b"\0" in encoded:
        raise ValueError(f"{value!r} holds a zero byte; expected text without")
    return encoded
