"""collage: batched image classification whose answers arrive by deadline.

    import collage

    with collage.Engine(device="cpu", release="10ms") as engine:
        ticket = engine.submit("digit.png")     # never waits; a concurrent.futures.Future
        answer = ticket.result()
        print(answer.label, answer.confidence, answer.source, answer.latency)

    answers = engine.classify(arrays)           # many at once, in their order

The package is a thin layer of ctypes over the C interface (include/collage.h): it needs nothing but the library in it.
"""

from ._abi import library as _library
from ._engine import Engine, ModelLike, now
from ._errors import (
    CollageError,
    DeadlineExceeded,
    DeviceError,
    EngineClosed,
    ImageError,
    InterfaceError,
    ModelError,
    Overloaded,
    ServingError,
    SettingError,
)
from ._image import ImageLike, Layout
from ._settings import Duration
from ._ticket import Answer, Independence, Score, Source, Ticket

__version__: str = _library.collage_version().decode()

__all__ = [
    "Answer",
    "CollageError",
    "DeadlineExceeded",
    "DeviceError",
    "Duration",
    "Engine",
    "EngineClosed",
    "ImageError",
    "ImageLike",
    "Independence",
    "InterfaceError",
    "Layout",
    "ModelError",
    "ModelLike",
    "Overloaded",
    "Score",
    "ServingError",
    "SettingError",
    "Source",
    "Ticket",
    "now",
]
