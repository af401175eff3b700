"""The hosts that this machine's package managers are configured to use: what the allow lists pypi, conda and apt hold.

Formats: pip's user guide, "Configuration" (files, precedence, PIP_* variables); sources.list(5), both of its styles; conda's
".condarc". pip's own default index is read from the installed pip, without running it. What can't be read is skipped.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sublet.values.egress import ENTRIES_MAX, Rule
from sublet.values.errors import InvalidInputError

_FILE_BYTES_MAX = 1 << 20
_FILES_MAX = 200
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"https?://[^\s\"',\]\[{}#]+")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where configuration is read: below `root`, in `home`, from `environ`; `prefix` is the Python environment's folder and
    `libraries` are folders in which pip may be installed."""

    root: Path = Path("/")
    home: Path | None = field(default_factory=lambda: Path("~").expanduser())
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))
    libraries: tuple[Path, ...] = field(default_factory=lambda: tuple(Path(entry) for entry in sys.path if entry))

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def machine_lists(machine: Machine | None = None) -> dict[str, tuple[Rule, ...]]:
    """The lists of `values.egress_presets.OF_THE_MACHINE`; one for which nothing was found is left out."""
    here = machine or Machine()
    found = {"pypi": _rules(_pip_urls(here)), "conda": _rules(_conda_urls(here)), "apt": _rules(_apt_urls(here))}
    return {name: rules for name, rules in found.items() if rules}


def _rules(urls: Iterable[str]) -> tuple[Rule, ...]:
    """One host and port for each URL; not for files, addresses, or what is no URL. A password in one goes nowhere."""
    rules = dict.fromkeys(rule for rule in map(_rule, urls) if rule is not None)
    return tuple(rules)[:ENTRIES_MAX]


def _rule(url: str) -> Rule | None:
    try:
        parts = urlsplit(url.strip())
        port = parts.port or _PORTS[parts.scheme]
        return Rule.parse(f"{parts.hostname or ''}:{port}")
    except (ValueError, KeyError, InvalidInputError):
        return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""


def _inside(folder: Path, *patterns: str) -> list[Path]:
    try:
        return sorted(path for pattern in patterns for path in folder.glob(pattern))[:_FILES_MAX]
    except OSError:
        return []


# -- pip


def _pip_urls(machine: Machine) -> Iterator[str]:
    """A variable goes before files, and of files the last that states a key; without an index of its own, pip's default."""
    stated = _pip_stated(machine)
    default, files = _pip_default(machine)
    index = stated.get("index-url", "").strip() or default
    yield index
    if index and _rule(index) == _rule(default):
        yield files
    yield from stated.get("extra-index-url", "").split()


def _pip_stated(machine: Machine) -> dict[str, str]:
    environ = machine.environ
    directories = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    paths = [machine.at(entry) / "pip" / "pip.conf" for entry in directories.split(":") if entry]
    paths.append(machine.at("/etc/pip.conf"))
    if machine.home is not None:
        own = Path(environ.get("XDG_CONFIG_HOME") or machine.home / ".config")
        paths += [machine.home / ".pip" / "pip.conf", own / "pip" / "pip.conf"]
    paths.append(machine.prefix / "pip.conf")
    if named := environ.get("PIP_CONFIG_FILE"):
        paths = [] if named == os.devnull else [*paths, Path(named)]
    stated: dict[str, str] = {}
    for section in ("global", "download", "install"):
        for path in paths:
            stated |= _pip_section(path, section)
    for key in ("index-url", "extra-index-url"):
        if value := environ.get("PIP_" + key.upper().replace("-", "_")):
            stated[key] = value
    return stated


def _pip_section(path: Path, section: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(_text(path))
        return {key.replace("_", "-"): value for key, value in parser.items(section)}
    except configparser.Error:
        return {}


def _pip_default(machine: Machine) -> tuple[str, str]:
    """The index that the installed pip asks by itself, and the URL of its files; empty where no pip is found."""
    for source in _pip_sources(machine):
        for node in ast.walk(source):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                texts = [part.value for part in node.value.args if isinstance(part, ast.Constant)]
                files = {
                    part.arg: part.value.value for part in node.value.keywords if isinstance(part.value, ast.Constant)
                }
                if names == ["PyPI"] and texts and "file_storage_domain" in files:
                    return str(texts[0]), f"https://{files['file_storage_domain']!s}"
    return "", ""


def _pip_sources(machine: Machine) -> Iterator[ast.Module]:
    inside = "pip/_internal/models/index.py"
    for library in (*machine.libraries, machine.at("/usr/lib/python3/dist-packages")):
        if text := _text(library / inside):
            yield from _parsed(text)
    bundled = [library / "ensurepip" / "_bundled" for library in machine.libraries]
    for folder in (*bundled, machine.at("/usr/share/python-wheels")):
        for wheel in _inside(folder, "pip-*.whl"):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(inside) as file:
                    yield from _parsed(file.read(_FILE_BYTES_MAX).decode(errors="replace"))
            except (OSError, KeyError, zipfile.BadZipFile):
                continue


def _parsed(text: str) -> Iterator[ast.Module]:
    try:
        yield ast.parse(text)
    except (SyntaxError, ValueError):
        return


# -- apt


def _apt_urls(machine: Machine) -> Iterator[str]:
    folder = machine.at("/etc/apt/sources.list.d")
    for path in (machine.at("/etc/apt/sources.list"), *_inside(folder, "*.list")):
        for line in _text(path).splitlines():
            # The options in brackets may hold blanks.
            plain = re.sub(r"\[[^\]]*\]", " ", line.partition("#")[0]).split()
            if len(plain) >= 2 and plain[0] == "deb":
                yield plain[1]
    for path in _inside(folder, "*.sources"):
        for stanza in re.split(r"\n[ \t]*\n", _text(path)):
            yield from _stanza_urls(stanza)


def _stanza_urls(stanza: str) -> Iterator[str]:
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[last] = f"{fields.get(last, '')} {line.strip()}"
            continue
        last, _, value = (part.strip() for part in line.partition(":"))
        last = last.lower()
        fields[last] = value
    off = fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "disable", "without")
    if not off and "deb" in fields.get("types", "").split():
        yield from fields.get("uris", "").split()


# -- conda


def _conda_urls(machine: Machine) -> Iterator[str]:
    """Every URL of the configuration but those of its proxies; names of channels belong to the alias."""
    environ = machine.environ
    paths = [machine.at(path) for path in ("/etc/conda/.condarc", "/etc/conda/condarc")]
    paths += _inside(machine.at("/etc/conda/condarc.d"), "*.yml", "*.yaml")
    if root := environ.get("CONDA_ROOT"):
        paths += [Path(root) / ".condarc", Path(root) / "condarc"]
    if machine.home is not None:
        own = Path(environ.get("XDG_CONFIG_HOME") or machine.home / ".config")
        paths += [own / "conda" / ".condarc", machine.home / ".conda" / ".condarc", machine.home / ".condarc"]
    if named := environ.get("CONDARC"):
        paths.append(Path(named))
    for path in paths:
        proxies = False
        for line in _text(path).splitlines():
            if line and not line[0].isspace() and line[0] not in "-#":
                proxies = line.startswith("proxy_servers")
            if not proxies:
                yield from _URL.findall(re.sub(r"(^|\s)#.*", "", line))
    for key in ("CONDA_CHANNELS", "CONDA_CHANNEL_ALIAS", "CONDA_DEFAULT_CHANNELS"):
        yield from _URL.findall(environ.get(key, ""))
    yield from _conda_defaults(machine)


def _conda_defaults(machine: Machine) -> Iterator[str]:
    """What the installed conda asks by itself."""
    program = machine.environ.get("CONDA_EXE", "")
    base = Path(program).parent.parent if program else machine.prefix
    for path in _inside(base, "lib/python3*/site-packages/conda/base/constants.py"):
        for module in _parsed(_text(path)):
            for node in module.body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                if isinstance(target, ast.Name) and target.id in ("DEFAULT_CHANNEL_ALIAS", "DEFAULT_CHANNELS_UNIX"):
                    yield from _URL.findall(ast.unparse(node))
