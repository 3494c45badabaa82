"""Filters as EC2 reads them: all of them must hold, of each one value, with ``*`` for anything."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from compute_bridge_aws.testing.refusal import AwsRefusal


def values(request: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of one filter."""
    return [value for one in request.get("Filters", []) if one["Name"] == name for value in one["Values"]]


def filtered(
    request: Mapping[str, Any],
    things: Any,
    fields: Mapping[str, Callable[[Any], list[str]]],
    *,
    tags: Callable[[Any], Mapping[str, str]] = lambda _one: {},
) -> Iterator[Any]:
    """Yield the things that every filter lets through.

    :raises AwsRefusal: for a filter that there is not.
    """
    filters = request.get("Filters", [])
    for one in filters:
        if one.get("Name") not in fields and not str(one.get("Name", "")).startswith("tag:"):
            raise AwsRefusal("InvalidParameterValue", f"the filter '{one.get('Name')}' is invalid")
        if not one.get("Values"):
            raise AwsRefusal("InvalidParameterValue", f"the filter '{one['Name']}' has no values")
    for thing in things:
        if all(_passes(thing, one, fields, tags) for one in filters):
            yield thing


def _passes(
    thing: Any, one: Mapping[str, Any], fields: Mapping[str, Any], tags: Callable[[Any], Mapping[str, str]]
) -> bool:
    name = one["Name"]
    has = fields[name](thing) if name in fields else [value for key, value in tags(thing).items() if key == name[4:]]
    return any(fnmatchcase(value, pattern) for value in has for pattern in one["Values"])
