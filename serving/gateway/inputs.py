"""What a caller may send for a model, told apart and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bundle.errors import InputError
from bundle.manifest import Signature, TensorSpec
from bundle.preprocess import Raw
from serving.errors import InvalidArgument
from serving.gateway.published import Model
from serving.gateway.types import SIGNATURE, Tensors, shown

Input = Raw | Tensors | InvalidArgument  # the last: a message that could not be read


@dataclass(frozen=True)
class SortedInputs:
    """The inputs of one call by kind, under their place in it."""

    raw: Mapping[int, Raw]
    tensors: Mapping[int, Tensors]
    errors: Mapping[int, InvalidArgument]


def sort_inputs(model: Model, inputs: Sequence[Input]) -> SortedInputs:
    """Tells raw inputs, tensors and what is wrong apart; errors name `inputs[<place>]`."""
    raw: dict[int, Raw] = {}
    tensors: dict[int, Tensors] = {}
    errors: dict[int, InvalidArgument] = {}
    for place, value in enumerate(inputs):
        if isinstance(value, InvalidArgument):
            errors[place] = value
            continue
        try:
            if isinstance(value, str | bytes):
                _check_raw(model, value, f"inputs[{place}]")
                raw[place] = value
            else:
                signature = model.manifest.signatures[SIGNATURE]
                _check_tensors(signature, value, f"inputs[{place}].tensors")
                tensors[place] = value
        except InvalidArgument as error:
            errors[place] = error
    return SortedInputs(raw, tensors, errors)


def _check_raw(model: Model, value: Raw, field: str) -> None:
    try:
        model.preprocessor.check(value)
    except InputError as error:
        raise InvalidArgument(f"{field}.{error.field}", error.problem) from error


def _check_tensors(signature: Signature, given: Tensors, field: str) -> None:
    specs = {spec.name: spec for spec in signature.inputs}
    for name in specs:
        if name not in given:
            raise InvalidArgument(f"{field}[{name!r}]", f"is missing; send {', '.join(specs)}")
    for name, array in given.items():
        here = f"{field}[{shown(name)}]"
        if name not in specs:
            raise InvalidArgument(here, f"is unknown; send {', '.join(specs)}")
        spec = specs[name]
        if array.dtype.name != spec.dtype or not _fits(array.shape, spec):
            found = f"{array.dtype.name} {list(array.shape)}"
            wanted = ", ".join("?" if size is None else str(size) for size in spec.shape)
            raise InvalidArgument(here, f"is {found}; send {spec.dtype} [{wanted}]")


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    sizes = zip(shape, spec.shape, strict=False)
    return len(shape) == len(spec.shape) and all(want in (None, size) for size, want in sizes)
