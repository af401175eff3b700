"""Which files of this Python the sandbox needs, so that its PID 1 and its SSH server run wherever Python lives."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

PYTHON_INSIDE = "/opt/sublet/python"
PACKAGES_INSIDE = "/opt/sublet/packages"
# What asyncssh imports; the rest of site-packages is nobody's business inside.
_PACKAGES = ("asyncssh", "cryptography", "cffi", "_cffi_backend", "pycparser", "typing_extensions")


@dataclass(frozen=True, slots=True)
class PythonRuntime:
    """`binds` are (source outside, path inside) pairs; `executable` is the interpreter's path inside."""

    executable: str
    library_path: str
    binds: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]


def interpreter() -> PythonRuntime:
    """This interpreter as the sandbox sees it: in place where it is part of the system, else bound below /opt/sublet.

    A relocated interpreter finds its library by its own path, so nothing but the place changes; a shared libpython is found
    by `library_path`. Its site-packages are hidden.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix).resolve()
    if base.is_relative_to("/usr"):
        library = "" if base == Path("/usr") else str(base / "lib")
        return PythonRuntime(str((base / "bin" / version).resolve()), library, (), ())
    hidden = base / "lib" / version / "site-packages"
    return PythonRuntime(
        f"{PYTHON_INSIDE}/bin/{version}",
        f"{PYTHON_INSIDE}/lib",
        ((str(base), PYTHON_INSIDE),),
        (f"{PYTHON_INSIDE}/lib/{version}/site-packages",) if hidden.is_dir() else (),
    )


def ssh_packages() -> tuple[tuple[str, str], ...]:
    """The packages that the asyncssh door imports, as (source, path inside) pairs; empty where asyncssh is missing."""
    binds: list[tuple[str, str]] = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name in ("asyncssh", "cryptography", "typing_extensions"):
                return ()
            continue
        source = Path(spec.origin)
        source = source.parent if source.name == "__init__.py" else source
        binds.append((str(source), f"{PACKAGES_INSIDE}/{source.name}"))
    return tuple(binds)


def inside_files() -> tuple[tuple[str, str], ...]:
    """The programs that run inside, as (source, path inside) pairs."""
    here = Path(__file__).parent / "inside"
    return tuple((str(here / name), f"/opt/sublet/{name}") for name in ("init.py", "ssh_server.py"))
