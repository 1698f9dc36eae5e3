"""`tensorseek-model-server`: the embedded backend under `tensorflow_model_server`'s own flags.

    tensorseek-model-server --model_name=sentiment --model_base_path=/models/sentiment \\
        --port=8500 --rest_api_port=8501

A script that was written for the real binary starts this one unchanged; `docs/backend.md` tells
what differs. Exit codes: 0 stopped, 1 can't start, 2 the command line is wrong.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

_NAME = "tensorseek-model-server"
_EXAMPLE = f"Example: {_NAME} --model_name=sentiment --model_base_path=/models/sentiment"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until it is told to stop.

    Args:
        arguments: the command line, by default this process's.

    Returns:
        The exit code.
    """
    try:
        return _run(arguments)
    except ModuleNotFoundError as error:
        print(
            f"{_NAME}: {error.name} is not installed: pip install 'tensorseek[backend]'",
            file=sys.stderr,
        )
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    # Here, so that what is not installed is told in one line, and a wrong flag at once:
    # the server brings TensorFlow.
    from serving import logs  # noqa: PLC0415
    from serving.backend import flags  # noqa: PLC0415
    from serving.errors import ConfigError  # noqa: PLC0415

    found = flags.parser(_NAME, _EXAMPLE).parse_args(arguments)
    try:
        config = flags.read(found)
        logs.configure()
        for name in flags.without_effect(found):
            logging.getLogger(_NAME).warning("flag has no effect here", extra={"flag": name})
        from serving.backend import server  # noqa: PLC0415

        server.run(config)
    except ConfigError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
