"""The services that speak JSON or CBOR: what comes in and what goes out is held to the SDK's own model."""

from collections.abc import Mapping
from typing import Any

from compute_bridge_aws.sdk import service_model
from compute_bridge_aws.testing.refusal import AwsRefusal


class Documents:
    """One service whose requests and answers are documents."""

    def __init__(self, service: str) -> None:
        self._model = service_model(service)

    def request(self, action: str, value: Any) -> dict[str, Any]:
        """Return a request that the model knows.

        :raises AwsRefusal: for one that it does not know.
        """
        if action not in self._model.operation_names:
            raise AwsRefusal("UnknownOperationException", action)
        shape = self._model.operation_model(action).input_shape
        if fault := _fault(shape, value, action):
            raise AwsRefusal("ValidationException", fault)
        return dict(value)

    def answer(self, action: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an answer that the model knows; anything else is a bug of the fake."""
        if fault := _fault(self._model.operation_model(action).output_shape, value, action):
            raise TypeError(f"the fake answers what AWS cannot: {fault}")
        return value


def _fault(shape: Any, value: Any, path: str) -> str:
    if shape.type_name == "structure":
        return _structure_fault(shape, value, path)
    if shape.type_name == "list":
        if not isinstance(value, list):
            return f"{path} is no list"
        return next(filter(None, (_fault(shape.member, one, f"{path}[]") for one in value)), "")
    kinds = {"string": str, "boolean": bool, "integer": int, "long": int, "double": float | int, "float": float | int}
    kind = kinds.get(shape.type_name)
    if kind is not None and not isinstance(value, kind):
        return f"{path} is no {shape.type_name}"
    is_foreign = getattr(shape, "enum", ()) and value not in shape.enum
    return f"{path} may not be {value}" if is_foreign else ""


def _structure_fault(shape: Any, value: Any, path: str) -> str:
    if not isinstance(value, Mapping):
        return f"{path} is no structure"
    if unknown := sorted(set(value) - set(shape.members)):
        return f"{path} has no member {unknown[0]}"
    if missing := [name for name in shape.required_members if name not in value]:
        return f"{path} wants {missing[0]}"
    return next(filter(None, (_fault(shape.members[key], one, f"{path}.{key}") for key, one in value.items())), "")
