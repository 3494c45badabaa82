"""EC2's wire by the SDK's own model: a form becomes a request, an answer becomes XML, each by its shape.

Source: botocore's serializers and parsers of the protocols ``ec2`` and ``query``, which stand at the other end.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from compute_bridge_aws.sdk import service_model
from compute_bridge_aws.testing.refusal import AwsRefusal

_APART = ("Action", "Version")
Tree = dict[str, Any]


class Wire:
    """One service that speaks forms and XML."""

    def __init__(self, service: str) -> None:
        self._model = service_model(service)

    def request(self, body: bytes) -> tuple[str, dict[str, Any]]:
        """Return the operation and the request of a form.

        :raises AwsRefusal: for what the model does not know, for what it wants and is missing, and for wrong values.
        """
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        action = form.get("Action", "")
        if action not in self._model.operation_names:
            raise AwsRefusal("InvalidAction", f"the action {action} is not valid for this web service")
        shape = self._model.operation_model(action).input_shape
        tree = _tree({key: value for key, value in form.items() if key not in _APART})
        if shape is None:
            if tree:
                raise AwsRefusal("UnknownParameter", f"the parameter {min(tree)} is not recognized")
            return action, {}
        return action, _structure(shape, tree, "")

    def answer(self, action: str, value: Mapping[str, Any]) -> bytes:
        """Return the XML of an answer."""
        shape = self._model.operation_model(action).output_shape
        space = self._model.metadata["xmlNamespace"]
        told = "".join(_members(shape, value)) if shape is not None else ""
        if shape is not None and "resultWrapper" in shape.serialization:
            wrapper = shape.serialization["resultWrapper"]
            told = f"<{wrapper}>{told}</{wrapper}>"
        return f'<{action}Response xmlns="{space}"><requestId>r-0</requestId>{told}</{action}Response>'.encode()


# --- in -----------------------------------------------------------------------------------------


def _tree(form: Mapping[str, str]) -> Tree:
    tree: Tree = {}
    for key, value in form.items():
        at = tree
        *path, last = key.split(".")
        for word in path:
            at = at.setdefault(word, {})
            if not isinstance(at, dict):
                raise AwsRefusal("MalformedQueryString", f"{key} is below a value")
        at[last] = value
    return tree


def _word(name: str, shape: Any) -> str:
    told = shape.serialization.get("queryName")
    if told:
        return str(told)
    told = shape.serialization.get("name")
    return f"{told[0].upper()}{told[1:]}" if told else name


def _structure(shape: Any, tree: Any, path: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise AwsRefusal("InvalidParameterValue", f"{path} is no structure")
    words = {_word(name, member): (name, member) for name, member in shape.members.items()}
    if unknown := sorted(set(tree) - set(words)):
        raise AwsRefusal("UnknownParameter", f"the parameter {path}{unknown[0]} is not recognized")
    found = {}
    for word, value in tree.items():
        name, member = words[word]
        found[name] = _value(member, value, f"{path}{word}.")
    if missing := [name for name in shape.required_members if name not in found]:
        raise AwsRefusal("MissingParameter", f"the request must contain the parameter {path}{missing[0]}")
    return found


def _list(shape: Any, tree: Any, path: str) -> list[Any]:
    if not isinstance(tree, dict) or sorted(tree, key=int) != [str(at) for at in range(1, len(tree) + 1)]:
        raise AwsRefusal("InvalidParameterValue", f"{path} is no list numbered from 1")
    return [_value(shape.member, tree[at], f"{path}{at}.") for at in sorted(tree, key=int)]


def _value(shape: Any, tree: Any, path: str) -> Any:
    if shape.type_name == "structure":
        return _structure(shape, tree, path)
    if shape.type_name == "list":
        return _list(shape, tree, path)
    if not isinstance(tree, str):
        raise AwsRefusal("InvalidParameterValue", f"{path} is no {shape.type_name}")
    return _scalar(shape, tree, path.rstrip("."))


def _scalar(shape: Any, told: str, path: str) -> Any:
    kind = shape.type_name
    try:
        if kind in ("integer", "long"):
            return int(told)
        if kind in ("float", "double"):
            return float(told)
        if kind == "boolean":
            return {"true": True, "false": False}[told]
        if kind == "timestamp":
            return datetime.fromisoformat(told)
    except (ValueError, KeyError) as error:
        raise AwsRefusal("InvalidParameterValue", f"{path} is no {kind}: {told}") from error
    if getattr(shape, "enum", ()) and told not in shape.enum:
        raise AwsRefusal("InvalidParameterValue", f"{told} is no value of {path}")
    return told


# --- out ----------------------------------------------------------------------------------------


def _members(shape: Any, value: Mapping[str, Any]) -> Iterator[str]:
    if unknown := sorted(set(value) - set(shape.members)):
        raise TypeError(f"{shape.name} has no member {unknown[0]}: the fake answers what AWS cannot")
    for name, told in value.items():
        member = shape.members[name]
        yield from _element(member, str(member.serialization.get("name", name)), told)


def _element(shape: Any, word: str, value: Any) -> Iterator[str]:
    if shape.type_name == "structure":
        yield f"<{word}>{''.join(_members(shape, value))}</{word}>"
    elif shape.type_name == "list":
        yield from _items(shape, word, value)
    else:
        yield f"<{word}>{escape(_text(shape, value))}</{word}>"


def _items(shape: Any, word: str, values: list[Any]) -> Iterator[str]:
    if shape.serialization.get("flattened"):
        for value in values:
            yield from _element(shape.member, word, value)
        return
    item = str(shape.member.serialization.get("name", "member"))
    yield f"<{word}>{''.join(part for value in values for part in _element(shape.member, item, value))}</{word}>"


def _text(shape: Any, value: Any) -> str:
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return datetime.fromtimestamp(value // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if shape.type_name in ("integer", "long", "float", "double") and not isinstance(value, int | float | Decimal):
        raise TypeError(f"{shape.name} wants a number, not {value!r}")
    return str(value)
