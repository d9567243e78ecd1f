"""Whose fault an error is: as a rule the call's, but a full disk or a store that is down would fail any other call too.

Nobody is blamed for those. An error of CUDA is somewhere between: the call may have caused it, and whatever else this
process tries on the GPU fails with it.
"""

from __future__ import annotations

import errno
import re
from typing import Literal

from obstore.exceptions import GenericError

from workers.ingest.objects import ObjectStoreError

Fault = Literal["call", "surroundings", "process"]

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What tempfile makes of a disk that was full before the first temporary file.
_NO_TEMPORARY_DIRECTORY = "No usable temporary directory found"
# obstore tells the answer of a store in its message only; without one there was no connection, or it broke.
_STATUS = re.compile(r"status code: (\d{3})")
_COME_BACK_LATER = frozenset({408, 429})
# As PyTorch, cuBLAS by way of it, Triton and CTranslate2 put it.
_CUDA = re.compile(r"CUDA error:|Triton Error \[CUDA\]|(CUDA|cuBLAS|cuDNN) failed with")
_OUT_OF_MEMORY = "out of memory"


class WorkBlockedError(Exception):
    """What every call needs is out of order; the work was given back and waits."""


class ProcessBrokenError(Exception):
    """Nothing can be done any more in this process; another one has to go on."""


def whose_fault(error: Exception) -> Fault:
    """Whether the call, what surrounds the worker, or this process has to be put right before it works."""
    if isinstance(error, ObjectStoreError):
        return "surroundings" if _is_store_down(error) else "call"
    if isinstance(error, OSError):
        is_full = error.errno in _DISK_FULL or _NO_TEMPORARY_DIRECTORY in str(error)
        return "surroundings" if is_full else "call"
    if isinstance(error, RuntimeError) and _CUDA.search(str(error)):
        return "call" if _OUT_OF_MEMORY in str(error) else "process"
    return "call"


def _is_store_down(error: ObjectStoreError) -> bool:
    """No connection, no answer, or one that says that the store is ill; not one that is about the object."""
    if not isinstance(error.__cause__, GenericError):
        return False
    answer = _STATUS.search(str(error))
    return answer is None or int(answer[1]) >= 500 or int(answer[1]) in _COME_BACK_LATER
