"""A plugin project laid out as an installer would, without an installer: for tests of entry points.

Put the folder first on ``sys.path`` or ``PYTHONPATH`` and the project is installed there.
"""

import shutil
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any


def lay_out(project: Path, folder: Path) -> Path:
    """Copy what is under ``project/src`` to ``folder``, write its ``dist-info`` beside it and return that.

    Reads name, version and entry points from ``pyproject.toml``; dependencies are left out.

    :raises LookupError: if the project has no package under ``src``.
    """
    settings: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    packages = [path for path in (project / "src").iterdir() if (path / "__init__.py").is_file()]
    if not packages:
        raise LookupError(f"{project}/src holds no package: put one there, with an __init__.py")
    for package in packages:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / package.name, ignore=ignored, dirs_exist_ok=True)
    info = folder / f"{settings['name'].replace('-', '_')}-{settings['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {settings['name']}\nVersion: {settings['version']}\n")
    (info / "entry_points.txt").write_text("\n".join(_entry_points(settings.get("entry-points", {}))) + "\n")
    files = [*info.iterdir(), *(path for package in packages for path in (folder / package.name).rglob("*.*"))]
    (info / "RECORD").write_text("".join(sorted(_recorded(file, folder) for file in files if file.is_file())))
    return info


def _entry_points(groups: dict[str, dict[str, str]]) -> Iterator[str]:
    for group, entries in groups.items():
        yield f"[{group}]"
        yield from (f"{name} = {target}" for name, target in entries.items())


def _recorded(file: Path, folder: Path) -> str:
    content = file.read_bytes()
    value = urlsafe_b64encode(sha256(content).digest()).decode().rstrip("=")
    return f"{file.relative_to(folder).as_posix()},sha256={value},{len(content)}\n"
