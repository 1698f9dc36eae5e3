"""`python -m edge.prove FOLDER`: exits with 0 if a bundle answers here as it was published."""

from __future__ import annotations

import sys

from bundle.errors import BundleError
from edge.errors import EdgeError
from edge.runner import EdgeRunner


def main() -> None:
    """Runs the golden inputs; one line on standard error if something is wrong."""
    try:
        EdgeRunner.open(sys.argv[1])
    except (BundleError, EdgeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
