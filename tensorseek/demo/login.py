"""Who may see the page: a file with a `name:password` a line."""

from __future__ import annotations

import hmac
import stat
from collections.abc import Callable
from pathlib import Path

from tensorseek.errors import TensorseekError

_SHORTEST = 8


class LoginError(TensorseekError):
    """The file of logins can't be used; says why."""


def read(path: Path) -> Callable[[str, str], bool]:
    """What tells whether a name and a password are in the file.

    Raises:
        LoginError: it can't be read, others may read it, or a line is none.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginError(f"--logins {path}: {error}") from error
    if mode & stat.S_IRWXO:
        raise LoginError(f"--logins {path}: everybody can read it; chmod o-rwx {path}")
    known: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        name, separator, password = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not separator or not name or len(password) < _SHORTEST:
            raise LoginError(
                f"--logins {path}, line {number}: write name:password, the password with at least "
                f"{_SHORTEST} characters"
            )
        known[name] = password.encode()
    if not known:
        raise LoginError(f"--logins {path}: has no line; write name:password")

    def is_known(name: str, password: str) -> bool:
        # Of an unknown name, the same work is done.
        expected = known.get(name, b"\0" * _SHORTEST)
        return hmac.compare_digest(expected, password.encode()) and name in known

    return is_known
