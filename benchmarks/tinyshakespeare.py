"""DOC

command   make bench-tinyshakespeare
"""

from __future__ import annotations

import json

from benchmarks import real_data, real_run


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    print(json.dumps(real_run.run("tinyshakespeare", real_data.tinyshakespeare)))


if __name__ == "__main__":
    main()
