"""A config of some kind written back as the table of a boot file that says the same."""

import json
from collections.abc import Mapping

import attrs

from compute_bridge.adapters.toml_tables import fields_of, key_of


def backend_table(kind: str, config: object, *, name: str) -> str:
    """Return the ``[[backend]]`` table of ``config``; what is as nobody said is left out."""
    return f"[[backend]]\n{_lines({'name': name, 'kind': kind, **_words(config)})}"


def _words(config: object) -> dict[str, object]:
    return {
        key_of(attribute): value
        for attribute in fields_of(type(config))
        if (value := getattr(config, attribute.name)) != attribute.default
    }


def _lines(words: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in words.items())


def _toml(value: object) -> str:
    if attrs.has(type(value)):
        value = _words(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    # A JSON string, number or truth is one of TOML's.
    return json.dumps(value)
