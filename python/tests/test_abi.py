"""The package's mirror of the header is the header."""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

import pytest
from collage import _abi
from conftest import ROOT

HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "include" / "collage.h").read_text(), flags=re.S)
SCALARS: dict[str, Any] = {
    "size_t": c_size_t, "int32_t": c_int32, "int64_t": c_int64, "uint32_t": c_uint32, "uint64_t": c_uint64,
    "float": c_float, "double": c_double, "collage_callback": _abi.Callback, "collage_status": c_int32,
}  # fmt: skip
STRUCTS: dict[str, Any] = {
    "collage_options": _abi.Options,
    "collage_image": _abi.Image,
    "collage_score": _abi.Score,
    "collage_answer": _abi.Answer,
    "collage_request": _abi.Request,
}


def fields(struct: str) -> list[tuple[str, Any]]:
    body = re.search(rf"typedef struct {struct} \{{(.*?)\}} {struct};", HEADER, re.S)
    assert body, struct
    return [field(line.strip()) for line in body[1].split(";") if line.strip()]


def field(line: str) -> tuple[str, Any]:
    if "(*" in line:  # a function pointer
        return line.split("(*")[1].split(")")[0], c_void_p
    left, name = re.fullmatch(r"(.*?[\s*])(\w+(?:\[\d+\])?)", line, re.S).groups()  # type: ignore[union-attr]
    left = left.replace("const", "").replace(" ", "")
    if "[" in name:
        name, count = name.rstrip("]").split("[")
        return name, SCALARS[left] * int(count)
    if left.endswith("*"):
        kind = {"char*": c_char_p, "void*": c_void_p, "char**": POINTER(c_char_p), "collage_score*": POINTER(_abi.Score)}
        return name, kind[left]
    return name, SCALARS[left]


@pytest.mark.parametrize("struct", STRUCTS)
def test_struct_has_the_headers_fields_in_the_headers_order(struct: str) -> None:
    assert list(STRUCTS[struct]._fields_) == fields(struct)


@pytest.mark.parametrize("function", _abi.FUNCTIONS)
def test_function_takes_as_many_arguments_as_the_header_says(function: str) -> None:
    declared = re.search(rf"(\w[\w ]*[\s*]){function}\((.*?)\);", HEADER, re.S)
    assert declared, function
    parameters = [] if declared[2].strip() == "void" else declared[2].split(",")
    result, arguments = _abi.FUNCTIONS[function]
    assert len(arguments) == len(parameters)
    kind = declared[1].strip().replace("const ", "").replace(" ", "")
    assert result == (c_char_p if kind == "char*" else SCALARS[kind])
    for argument, parameter in zip(arguments, parameters, strict=True):
        assert (argument in SCALARS.values()) == ("*" not in parameter), parameter


def test_constants_are_the_headers() -> None:
    for name in ("OK", "OVERLOADED", "PENDING", "BUFFER_TOO_SMALL", "IN_CALLBACK", "ENCODED", "U8", "F16", "F32", "HWC", "CHW"):
        number = re.search(rf"\bCOLLAGE_{name} = (\d+)", HEADER)
        assert number and int(number[1]) == getattr(_abi, name), name
    for name in ("MAJOR", "MINOR"):
        number = re.search(rf"define COLLAGE_ABI_{name} (\d+)", HEADER)
        assert number and int(number[1]) == getattr(_abi, f"ABI_{name}"), name


def test_library_with_another_interface_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match="is not there"):
        _abi.load(tmp_path / "libcollage.so")
    monkeypatch.setattr(_abi, "ABI_MAJOR", 7)
    with pytest.raises(ImportError, match=r"expected 7\."):
        _abi.load(_abi.library_path())
    monkeypatch.undo()
    monkeypatch.setitem(_abi.FUNCTIONS, "collage_not_there", (ctypes.c_int, []))
    with pytest.raises(ImportError, match="no function collage_not_there"):
        _abi.load(_abi.library_path())
