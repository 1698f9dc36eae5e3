"""DOC

command   make bench-clothing
"""

from __future__ import annotations

import json

from benchmarks import real_data, real_run


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    print(json.dumps(real_run.run("clothing", real_data.clothing)))


if __name__ == "__main__":
    main()
