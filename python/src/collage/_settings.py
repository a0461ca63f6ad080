"""Settings of an engine, as the library reads them.

The library knows its settings by their TOML keys, and judges them: a keyword becomes a line of TOML, so that a setting has
one name, one syntax and one set of messages everywhere, and settings of a newer library need no newer package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Union

#: Seconds, or a text with its unit, such as "20ms".
Duration = Union[float, timedelta, str]

#: Settings that are times: their numbers are seconds.
_DURATIONS = {"batch_wait", "group_wait", "release", "deadline"}


def toml(settings: Mapping[str, Any]) -> str:
    """The settings that are not None, a line each."""
    lines = []
    for key, value in settings.items():
        if value is not None:
            lines.append(f"{json.dumps(key, ensure_ascii=False)} = {_value(key, value)}\n")
    return "".join(lines)


def _value(key: str, value: Any) -> str:
    if isinstance(value, timedelta):
        value = value.total_seconds()
        return f'"{value:.9f}s"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f'"{value:.9f}s"' if key in _DURATIONS else repr(value)
    if isinstance(value, (str, os.PathLike)):
        # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(os.fspath(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(key, item) for item in value) + "]"
    raise TypeError(f"{key}={value!r}; expected a number, a text, a path, or a list of them")


def nanoseconds(what: str, value: float | timedelta | None) -> int:
    """A request's time for C, where 0 means that none is given, and a negative number zero itself."""
    if value is None:
        return 0
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds <= 86_400:
        raise ValueError(f"{what}={value!r}; expected 0 to 86400 seconds")
    return round(seconds * 1e9) or -1
