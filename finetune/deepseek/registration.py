"""Makes transformers' auto classes know the family, without importing transformers.

    import finetune.deepseek ─► a finder waits ─► … import of modeling_tf_auto ─► registered

transformers and TensorFlow take seconds to import; who only reads a configuration needs neither.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_AUTO = "transformers.models.auto.modeling_tf_auto"  # it defines `TFAutoModelFor…`


def register() -> None:
    """Registers the family now if transformers has its TensorFlow classes, or else once it has."""
    if _AUTO in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds one module, as the other finders do, and registers once it was executed."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register()


def _register() -> None:
    from finetune.deepseek import auto  # noqa: PLC0415 (TensorFlow)

    auto.register()
