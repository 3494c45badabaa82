"""Every await of a module made a point by rewriting its syntax tree on import: no list by hand can forget one."""

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from crashkit.points import POINTS

HOOK = "_crashkit_awaits"
"""What the rewritten modules call this module."""


def label(path: str, node: ast.AST) -> str:
    """Return the name of an await: file, line and column."""
    return f"{Path(path).name}:{node.lineno}:{node.col_offset}"  # type: ignore[attr-defined]


def awaits(path: Path) -> list[str]:
    """Return the name of every await, ``async with`` and ``async for`` of a file."""
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Await)]
    items = [item.context_expr for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) for item in node.items]
    loops = [node.iter for node in ast.walk(tree) if isinstance(node, ast.AsyncFor)]
    loops += [node.iter for node in ast.walk(tree) if isinstance(node, ast.comprehension) and node.is_async]
    return [label(str(path), node) for node in (*found, *items, *loops)]


# --- what the rewritten code calls ------------------------------------------------------------------


def reached(name: str, awaitable: Any) -> Any:
    """Pass the point before an await."""
    POINTS.hit(f"before await {name}")
    return awaitable


def passed(name: str, result: Any) -> Any:
    """Pass the point after an await that returned."""
    POINTS.hit(f"after await {name}")
    return result


class Entered:
    """An asynchronous context with a point at each of its four edges."""

    def __init__(self, name: str, context: Any) -> None:
        self._name = name
        self._context = context

    async def __aenter__(self) -> Any:
        POINTS.hit(f"before await {self._name}")
        entered = await self._context.__aenter__()
        POINTS.hit(f"after await {self._name}")
        return entered

    async def __aexit__(self, *error: Any) -> Any:
        POINTS.hit(f"before exit {self._name}")
        result = await self._context.__aexit__(*error)
        POINTS.hit(f"after exit {self._name}")
        return result


class Iterated:
    """An asynchronous iteration with a point before and after each step."""

    def __init__(self, name: str, iterable: Any) -> None:
        self._name = name
        self._iterator = aiter(iterable)

    def __aiter__(self) -> "Iterated":
        return self

    async def __anext__(self) -> Any:
        POINTS.hit(f"before await {self._name}")
        item = await anext(self._iterator)
        POINTS.hit(f"after await {self._name}")
        return item


# --- rewriting --------------------------------------------------------------------------------------


class Rewriter(ast.NodeTransformer):
    """Leads every await of a tree through the functions above."""

    def __init__(self, path: str) -> None:
        self._path = path

    def visit_Await(self, node: ast.Await) -> ast.AST:
        """Put a point before and one after."""
        name = label(self._path, node)
        self.generic_visit(node)
        node.value = _call("reached", name, node.value)
        return ast.copy_location(_call("passed", name, node), node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        """Wrap every context of it."""
        for item in node.items:
            name = label(self._path, item.context_expr)
            item.context_expr = _call("Entered", name, self.visit(item.context_expr))
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        """Wrap what it iterates over."""
        name = label(self._path, node.iter)
        self.generic_visit(node)
        node.iter = _call("Iterated", name, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """Wrap an asynchronous one likewise."""
        name = label(self._path, node.iter)
        self.generic_visit(node)
        if node.is_async:
            node.iter = _call("Iterated", name, node.iter)
        return node


def _call(function: str, name: str, value: ast.expr) -> ast.expr:
    hook = ast.Attribute(ast.Name(HOOK, ast.Load()), function, ast.Load())
    return ast.copy_location(ast.Call(hook, [ast.Constant(name), value], []), value)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        # Never from a .pyc: what is cached there has no points.
        path = self.get_filename(fullname)
        tree = Rewriter(path).visit(ast.parse(self.get_data(path)))
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[HOOK] = sys.modules[__name__]
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def instrument(names: Sequence[str]) -> None:
    """Rewrite these modules when they are imported, from now on.

    :raises RuntimeError: if one has been imported already, and so would have no points.
    """
    late = [name for name in names if name in sys.modules]
    if late:
        raise RuntimeError(f"{', '.join(late)}: imported before it could be instrumented")
    sys.meta_path.insert(0, _Finder(frozenset(names)))
