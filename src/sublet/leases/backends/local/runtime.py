"""Which files of this Python the sandbox needs, so that its PID 1 and its SSH server run wherever Python lives."""

from __future__ import annotations

import importlib.util
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PYTHON_INSIDE = "/opt/sublet/python"
PACKAGES_INSIDE = "/opt/sublet/packages"
HOST_INSIDE = "/opt/sublet/host"
"""Where this machine's /usr is in a sandbox that runs on an image."""
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


@dataclass(frozen=True, slots=True)
class HostPrograms:
    """How this machine's Python and sshd run on an image's root: by this machine's own loader and libraries, since the image may
    have others or none. `binds` are (source outside, path inside) pairs."""

    loader: str
    libraries: str
    binds: tuple[tuple[str, str], ...]

    def command(self, program: str) -> list[str]:
        """The words that start a program of this machine, given its path as it is here or below /opt/sublet."""
        inside = program if program.startswith("/opt/sublet/") else HOST_INSIDE + str(Path(program).resolve())
        return [self.loader, "--library-path", self.libraries, inside]


def host_programs() -> HostPrograms | None:
    """None where this Python has no loader that could be used, as one that is linked statically."""
    loader = _loader(Path(sys.executable).resolve())
    if loader is None or (not loader.is_relative_to("/usr") and not loader.is_relative_to("/lib")):
        return None
    folders = [path for name in ("/usr", "/lib", "/lib64") if (path := Path(name)).is_dir() and not path.is_symlink()]
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    places = [
        loader.parent,
        *(Path(base, triplet) for base in ("/usr/lib", "/lib")),
        Path("/usr/lib64"),
        Path("/usr/lib"),
    ]
    libraries = [f"{HOST_INSIDE}{place}" for place in dict.fromkeys(places) if place.is_dir()]
    python = interpreter()
    return HostPrograms(
        f"{HOST_INSIDE}{loader}",
        ":".join([*filter(None, [python.library_path if python.binds else ""]), *libraries]),
        tuple((str(path), f"{HOST_INSIDE}{path}") for path in folders),
    )


def _loader(program: Path) -> Path | None:
    """The dynamic loader that a 64-bit ELF file names (elf(5): the program header PT_INTERP)."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        order = "<" if head[5] == 1 else ">"
        (at,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        for number in range(count):
            file.seek(at + number * size)
            kind, _, offset, _, _, length = struct.unpack(f"{order}IIQQQQ", file.read(40))
            if kind == 3:
                file.seek(offset)
                return Path(file.read(length).rstrip(b"\0").decode()).resolve()
    return None


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
    return tuple((str(here / name), f"/opt/sublet/{name}") for name in ("init.py", "ssh_server.py", "drain.py"))
