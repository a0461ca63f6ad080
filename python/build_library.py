"""Puts the C library into the wheel: builds it with cargo, or takes one that is built already.

`pip install ./python` and `python -m build --wheel ./python` run this. One wheel serves every CPython: the library knows
nothing of Python, and the package reaches it through ctypes. So the wheel's tag is py3-none-PLATFORM, and no compiler
other than Rust's is needed.

COLLAGE_LIBRARY  a libcollage that is built already, to be taken as it is
COLLAGE_PROFILE  cargo's profile (default: release)
COLLAGE_FEATURES cargo's features, such as "cuda,nvml"; without the default ones (default: those)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CRATE = Path(__file__).resolve().parent.parent
SUFFIXES = (".so", ".dylib", ".dll")


class LibraryHook(BuildHookInterface):
    """Adds the library beside the modules that load it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # a checkout finds its library through COLLAGE_LIBRARY
        given = os.environ.get("COLLAGE_LIBRARY")
        library = Path(given).resolve() if given else build()
        if not library.is_file():
            raise SystemExit(f"COLLAGE_LIBRARY={given}: there is no such file; expected a built libcollage")
        build_data["force_include"][str(library)] = f"collage/{library_name()}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"


def build() -> Path:
    """Builds the library, and returns where cargo says that it put it."""
    command = ["cargo", "rustc", "--lib", "--crate-type", "cdylib", "--message-format=json-render-diagnostics"]
    command += ["--profile", os.environ.get("COLLAGE_PROFILE", "release")]
    features = os.environ.get("COLLAGE_FEATURES")
    if features is not None:
        command += ["--no-default-features", "--features", features]
    print("+", *command, file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, cwd=CRATE, stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit("cargo is not there: install Rust (https://rustup.rs), or name a built libcollage in COLLAGE_LIBRARY") from None
    if done.returncode != 0:
        raise SystemExit(f"cargo failed with status {done.returncode}")
    for line in reversed(done.stdout.splitlines()):
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and "cdylib" in message["target"]["crate_types"]:
            return next(Path(name) for name in message["filenames"] if name.endswith(SUFFIXES))
    raise SystemExit("cargo named no library that it had built")


def library_name() -> str:
    if sys.platform == "win32":
        return "collage.dll"
    return "libcollage.dylib" if sys.platform == "darwin" else "libcollage.so"


def platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
