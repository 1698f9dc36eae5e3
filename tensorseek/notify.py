"""Tells somebody what a job came to: a web hook, or a command."""

from __future__ import annotations

import shlex
import subprocess
import urllib.request

from tensorseek.errors import NotifyError

_TIMEOUT_S = 30


def notify(target: str, message: bytes) -> None:
    """Posts JSON to an address, or gives it to a command on its standard input.

    Args:
        target: `http://…` or `https://…`; anything else is a command, run without a shell.

    Raises:
        NotifyError: it could not be told.
    """
    if target.startswith(("http://", "https://")):
        _post(target, message)
    else:
        _run(target, message)


def _post(address: str, message: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 (its scheme is checked above)
        address, message, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            pass
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors
        raise NotifyError(f"--notify {address}: {error}; is the address right?") from error


def _run(command: str, message: bytes) -> None:
    try:
        done = subprocess.run(
            shlex.split(command),
            input=message,
            timeout=_TIMEOUT_S,
            check=False,
            capture_output=True,
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        raise NotifyError(f"--notify {command}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        tail = f": {said[-1]}" if said else ""
        raise NotifyError(f"--notify {command}: ended with {done.returncode}{tail}")
