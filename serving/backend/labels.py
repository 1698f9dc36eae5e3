"""Names for versions: `stable` → 3, as the list of models says.

A label may only name a version that answers, or, where the server allows it, be new; so a caller
who asks by label is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from serving.backend.model_config import Listed
from serving.errors import ConfigError, InvalidArgument

IsAvailable = Callable[[str, int], bool]


class Labels:
    """The labels of every model.

    Args:
        is_available: whether (model, version) answers.
        allow_unavailable: a label that is new, or stays where it is, may name any version.
    """

    def __init__(self, is_available: IsAvailable, *, allow_unavailable: bool = False) -> None:
        self._is_available = is_available
        self._allow_unavailable = allow_unavailable
        self._labels: Mapping[str, Mapping[str, int]] = {}

    def check(self, models: Iterable[Listed]) -> None:
        """Refuses labels that may not be.

        Raises:
            ConfigError: with TensorFlow Serving's words.
        """
        for model in models:
            for label, version in model.labels.items():
                known = self._labels.get(model.name, {}).get(label, version)
                allowed = self._allow_unavailable and known == version
                if not allowed and not self._is_available(model.name, version):
                    raise ConfigError(
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference"
                    )

    def replace(self, models: Iterable[Listed]) -> None:
        """Takes the labels of another list, which `check` has let pass."""
        self._labels = {model.name: model.labels for model in models}

    def version(self, name: str, label: str) -> int:
        """The version that a label names.

        Raises:
            InvalidArgument: the model has no such label.
        """
        try:
            return self._labels[name][label]
        except KeyError:
            raise InvalidArgument("Unrecognized servable version label", label) from None
