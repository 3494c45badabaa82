"""As much of IAM as the plugin's policy uses: actions, resources and ``StringEquals``; anything else is refused."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import field, frozen

from compute_bridge_aws.testing.refusal import AwsRefusal


@frozen
class Access:
    """One thing that a call wants to do to one resource, with what a condition may look at."""

    action: str
    resource: str
    context: Mapping[str, str] = field(factory=dict)


def require(policy: Mapping[str, Any], wanted: Iterable[Access]) -> None:
    """Let a call pass whose every access is allowed and none denied.

    :raises AwsRefusal: ``UnauthorizedOperation`` otherwise.
    """
    for access in wanted:
        effects = {one["Effect"] for one in policy["Statement"] if _applies(one, access)}
        if effects != {"Allow"}:
            raise AwsRefusal("UnauthorizedOperation", f"not authorized: {access.action} on {access.resource}")


def _applies(statement: Mapping[str, Any], access: Access) -> bool:
    return (
        any(_is_like(access.action.lower(), action.lower()) for action in _many(statement["Action"]))
        and any(_is_like(access.resource, resource) for resource in _many(statement["Resource"]))
        and all(_holds(operator, wanted, access) for operator, wanted in statement.get("Condition", {}).items())
    )


def _holds(operator: str, wanted: Mapping[str, Any], access: Access) -> bool:
    if operator != "StringEquals":
        raise NotImplementedError(f"this IAM knows no {operator}")
    return all(access.context.get(key) in _many(values) for key, values in wanted.items())


def _is_like(value: str, pattern: str) -> bool:
    # Most of a policy is spelled out, and all of it is looked at in every call.
    return value == pattern or ("*" in pattern and fnmatchcase(value, pattern))


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
