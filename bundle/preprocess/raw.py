"""What goes into a preprocessor, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Raw = str | bytes  # a text, or an encoded picture
Tensors = Mapping[str, NDArray[Any]]
