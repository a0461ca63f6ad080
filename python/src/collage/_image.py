"""Images for the C interface: whatever the caller has, described where it lies.

Bytes are encoded images; arrays are read through the buffer protocol, with their own strides; tensors of other libraries
through DLPack, on the CPU or on CUDA. Nothing is copied here. Host memory is read before the call that submits it returns,
so it is held until then and no longer; DLPack tensors are handed to the library, which gives them back when it is done.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_char_p, c_int, c_ssize_t, c_void_p, py_object
from typing import Any, Literal, Protocol, Union, runtime_checkable

from . import _abi
from ._abi import library

Layout = Literal["hwc", "chw"]


@runtime_checkable
class SupportsDLPack(Protocol):
    """A tensor of another library."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


#: A path, an encoded image's bytes, an array of pixels, or a tensor. Objects with the buffer protocol are Any to checkers.
ImageLike = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, SupportsDLPack, Any]

_LAYOUTS = {"hwc": _abi.HWC, "chw": _abi.CHW}
#: struct's codes of element types.
_TYPES = {"B": _abi.U8, "e": _abi.F16, "f": _abi.F32}
#: PyBUF_STRIDES | PyBUF_FORMAT: read-only is enough, any strides.
_STRIDED = 0x18 | 0x04
#: DLPack's names of a capsule, before and after somebody took what is in it.
_CAPSULES = {b"dltensor": (0, b"used_dltensor"), b"dltensor_versioned": (1, b"used_dltensor_versioned")}
#: DLPack's device types whose memory belongs to a CUDA device: device memory, managed memory.
_DLPACK_CUDA = (2, 13)
#: DLPack's number for CUDA's legacy default stream.
_LEGACY_STREAM = 1


class _Buffer(ctypes.Structure):
    """CPython's Py_buffer, whose layout is part of its stable interface."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", ctypes.POINTER(c_ssize_t)),
        ("strides", ctypes.POINTER(c_ssize_t)),
        ("suboffsets", ctypes.POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(ctypes.pythonapi, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


_get_buffer = _declare("PyObject_GetBuffer", c_int, py_object, ctypes.POINTER(_Buffer), c_int)
_release_buffer = _declare("PyBuffer_Release", None, ctypes.POINTER(_Buffer))
_check_buffer = _declare("PyObject_CheckBuffer", c_int, py_object)
_capsule_name = _declare("PyCapsule_GetName", c_char_p, py_object)
_capsule_pointer = _declare("PyCapsule_GetPointer", c_void_p, py_object, c_char_p)
_capsule_rename = _declare("PyCapsule_SetName", c_int, py_object, c_char_p)


class Described:
    """An image described for the library, and what must live until it was submitted. Used with `with`."""

    def __init__(
        self, image: ImageLike, layout: Layout, values: tuple[float, float] | None, name: str | None
    ) -> None:
        if layout not in _LAYOUTS:
            raise ValueError(f'layout={layout!r}; expected "hwc" or "chw"')
        self.raw = _abi.Image(layout=_LAYOUTS[layout])
        self._buffer: _Buffer | None = None
        self._capsule: Any = None
        if isinstance(image, (str, os.PathLike)):
            name = name or os.fspath(image)
            with open(image, "rb") as file:
                image = file.read()
        # What can be wrong is found before anything is taken.
        self._name = None if name is None else _abi.text(name)
        low, high = (0.0, 0.0) if values is None else map(float, values)
        if _check_buffer(image):
            self._take_buffer(image)
        elif hasattr(image, "__dlpack__"):
            self._take_dlpack(image)
        else:
            raise TypeError(
                f"{type(image).__qualname__} is no image; expected a path, an encoded image's bytes, an array (uint8, "
                "float16 or float32) or a tensor with __dlpack__; a Pillow image: numpy.asarray(image.convert('RGB'))"
            )
        self.raw.low, self.raw.high = low, high
        if self._name is not None:
            self.raw.name = self._name

    def __enter__(self) -> _abi.Image:
        return self.raw

    def __exit__(self, *_: object) -> None:
        if self._buffer is not None:
            _release_buffer(self._buffer)
            self._buffer = None
        self._capsule = None  # its tensor is freed with it, unless the library took it

    def taken(self) -> None:
        """The submission succeeded: a DLPack tensor is the library's now."""
        if self._capsule is not None:
            _, used = _CAPSULES[_capsule_name(self._capsule)]
            _capsule_rename(self._capsule, used)

    def _take_buffer(self, image: Any) -> None:
        buffer = _Buffer()
        _get_buffer(image, buffer, _STRIDED)
        try:
            self._describe_buffer(buffer)
        except BaseException:
            _release_buffer(buffer)
            raise
        self._buffer = buffer

    def _describe_buffer(self, buffer: _Buffer) -> None:
        raw, count = self.raw, buffer.ndim
        code = (buffer.format or b"B").decode().lstrip("@=<" if _little_endian() else "@=>")
        if count == 1 and buffer.itemsize == 1 and buffer.strides[0] == 1:
            raw.type, raw.data, raw.size = _abi.ENCODED, buffer.buf, buffer.len
            return
        if code not in _TYPES:
            raise TypeError(f"elements of format {code!r}; expected uint8, float16 or float32 (B, e, f), such as by .astype()")
        if not 2 <= count <= 4:
            raise ValueError(f"an array of {count} dimensions; expected (H, W), (H, W, C) or (C, H, W)")
        shape, strides = buffer.shape[:count], buffer.strides[:count]
        if not any(strides) and any(n > 1 for n in shape):
            # For the library no strides means packed: it would read memory that is not there.
            raise ValueError(f"an array of shape {tuple(shape)} that repeats one element; copy it first")
        raw.type, raw.data, raw.dimensions = _TYPES[code], buffer.buf, count
        raw.shape[:count], raw.strides[:count] = shape, strides

    def _take_dlpack(self, tensor: Any) -> None:
        on_cuda = tensor.__dlpack_device__()[0] in _DLPACK_CUDA
        # The producer makes this stream wait for its own; the library, when it reads, waits for this stream.
        stream: dict[str, Any] = {"stream": _LEGACY_STREAM} if on_cuda else {}
        try:
            capsule = tensor.__dlpack__(max_version=(1, 0), **stream)
        except TypeError:  # a producer older than DLPack 1.0
            capsule = tensor.__dlpack__(**stream)
        name = _capsule_name(capsule)
        if name not in _CAPSULES:
            raise TypeError(f"__dlpack__ gave a capsule named {name!r}; expected one of {sorted(_CAPSULES)}")
        versioned, _ = _CAPSULES[name]
        pointer = _capsule_pointer(capsule, name)
        _abi.check(library.collage_image_from_dlpack(pointer, versioned, self.raw.layout, self.raw))
        if on_cuda:
            self.raw.stream = 0  # the legacy default stream
        self._capsule = capsule


def _little_endian() -> bool:
    return sys.byteorder == "little"
