"""What can go wrong: one class a group of causes, as the C interface numbers them.

`code` is the stable number of the one cause (COLLAGE_... in collage.h), `can_retry` says whether the same call may succeed
later. What callers commonly tell apart has a class of its own within its group.
"""

from __future__ import annotations


class CollageError(Exception):
    """Any failure of the engine. `code` names the cause, `can_retry` says whether trying again later can help."""

    def __init__(self, code: int, message: str, can_retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.can_retry = can_retry

    def __reduce__(self) -> tuple[type[CollageError], tuple[int, str, bool]]:
        return type(self), (self.code, str(self), self.can_retry)


class ImageError(CollageError, ValueError):
    """1xx: an image that cannot be decoded or taken."""


class ModelError(CollageError, ValueError):
    """2xx: a model file that is damaged, or not one of this engine's. The message names the tensor, field or layer."""


class DeviceError(CollageError):
    """3xx: no such device, or it failed."""


class ServingError(CollageError):
    """4xx: the engine could not start, or a request got no answer."""


class Overloaded(ServingError):
    """As many requests wait as `queue` allows; later there may be room."""


class DeadlineExceeded(ServingError, TimeoutError):
    """No acceptable answer by the request's deadline."""


class EngineClosed(ServingError):
    """The engine is closing or closed."""


class SettingError(CollageError, ValueError):
    """5xx: a setting that is unknown, or a value that it does not take."""


class InterfaceError(CollageError):
    """6xx: a call that cannot be, such as a tensor that is no image; or a defect inside the library (606)."""


_GROUPS = {1: ImageError, 2: ModelError, 3: DeviceError, 4: ServingError, 5: SettingError, 6: InterfaceError}
_CAUSES = {400: Overloaded, 401: DeadlineExceeded, 405: EngineClosed, 609: ImageError}


def error_class(code: int) -> type[CollageError]:
    """The class of a status: its cause's own, else its group's, else the one of all."""
    return _CAUSES.get(code) or _GROUPS.get(code // 100, CollageError)
