"""What can go wrong where the parts are put together.

TensorseekError
  x FetchError     an example's model or data can't be had
  x StackError     a child process does not start, or dies
  x ScheduleError  a schedule that can't be kept
  x NotifyError    a report can't be delivered
  x CanaryError    a version can't be tried on the gateway's calls
"""

from __future__ import annotations


class TensorseekError(Exception):
    """Base of everything `tensorseek` raises; its message is one line for a person."""


class FetchError(TensorseekError):
    """A published file can't be downloaded, or is not the one that was pinned."""


class StackError(TensorseekError):
    """A child process does not start, or does not get ready in time."""


class ScheduleError(TensorseekError):
    """An interval or a jitter that no schedule can keep."""


class NotifyError(TensorseekError):
    """Nobody could be told: the command failed, or the address does not answer."""


class CanaryError(TensorseekError):
    """The gateway does not tell how versions do, or its configuration is in the way."""
