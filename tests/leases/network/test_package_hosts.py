"""The hosts of pypi, conda and apt are those that a machine's own package managers are configured for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sublet.config import egress as egress_settings
from sublet.config.egress import Egress
from sublet.config.package_hosts import Machine, machine_lists
from sublet.values.egress import EgressPolicy, parsed_list, shipped
from sublet.values.errors import InvalidInputError

PIP = 'PyPI = PackageIndex("https://index.example.org/", file_storage_domain="files.example.org")\nTest = 1\n'
INDEX = "pip/_internal/models/index.py"


def found(root: Path, environ: dict[str, str] | None = None) -> dict[str, list[str]]:
    machine = Machine(root, root / "home", environ or {}, root / "venv", (root / "lib",))
    return {name: [str(rule) for rule in rules] for name, rules in machine_lists(machine).items()}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_that_states_nothing_has_no_such_list(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


def test_pip_asks_its_own_index_and_that_ones_files_unless_it_is_told_another(tmp_path: Path) -> None:
    write(tmp_path / "lib" / INDEX, PIP)
    assert found(tmp_path)["pypi"] == ["index.example.org:443", "files.example.org:443"]
    write(tmp_path / "etc" / "pip.conf", "[global]\nextra-index-url = http://a.example.net:8080/simple file:///opt/x\n")
    own = ["index.example.org:443", "files.example.org:443", "a.example.net:8080"]
    assert found(tmp_path)["pypi"] == own
    write(
        tmp_path / "home/.config/pip/pip.conf", "[global]\nindex-url = https://user:secret@mirror.example.com/simple\n"
    )
    assert found(tmp_path)["pypi"] == ["mirror.example.com:443", "a.example.net:8080"]
    write(tmp_path / "venv" / "pip.conf", "[install]\nindex_url = https://venv.example.com/simple\n")
    assert found(tmp_path)["pypi"] == ["venv.example.com:443", "a.example.net:8080"]
    stated = {"PIP_INDEX_URL": "https://env.example.com/simple"}
    assert found(tmp_path, stated)["pypi"] == ["env.example.com:443", "a.example.net:8080"]
    assert found(tmp_path, {"PIP_CONFIG_FILE": "/dev/null"})["pypi"] == own[:2]


def test_pips_default_is_read_from_the_wheel_that_python_brings(tmp_path: Path) -> None:
    wheel = tmp_path / "lib" / "ensurepip" / "_bundled" / "pip-1-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(INDEX, PIP)
    assert found(tmp_path)["pypi"] == ["index.example.org:443", "files.example.org:443"]


def test_apts_sources_are_read_in_both_styles(tmp_path: Path) -> None:
    lines = ["# deb http://off.example.org x", "deb [arch=amd64 signed-by=/k] http://one.example.org/d a b",
             "deb-src http://source.example.org/d a", "deb cdrom:[x]/ a", "deb http://10.0.0.1/d a"]  # fmt: skip
    write(tmp_path / "etc/apt/sources.list", "\n".join(lines))
    write(tmp_path / "etc/apt/sources.list.d/x.list", "deb https://two.example.org/d a # deb http://no.example.org b\n")
    write(
        tmp_path / "etc/apt/sources.list.d/y.sources",
        "# first\nTypes: deb deb-src\nURIs: http://three.example.org/d\n  https://four.example.org:8443/d\nSuites: a\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.example.org/d\n\nTypes: deb-src\nURIs: http://off.example.org/d\n",
    )
    write(tmp_path / "etc/apt/sources.list.d/z.disabled", "deb http://off.example.org x\n")
    hosts = ["one.example.org:80", "two.example.org:443", "three.example.org:80", "four.example.org:8443"]
    assert found(tmp_path)["apt"] == hosts


def test_condas_channels_are_read_and_its_proxies_are_not(tmp_path: Path) -> None:
    condarc = (
        "channels:\n  - https://one.example.org/t/secret/main  # https://no.example.org\n  - conda-forge\n"
        "proxy_servers:\n  https: https://proxy.example.org:8080\nchannel_alias: https://two.example.org\n"
    )
    write(tmp_path / "home" / ".condarc", condarc)
    assert found(tmp_path)["conda"] == ["one.example.org:443", "two.example.org:443"]
    constants = tmp_path / "base/lib/python3.12/site-packages/conda/base/constants.py"
    write(constants, "DEFAULT_CHANNEL_ALIAS: Final = 'https://alias.example.org'\nOTHER = 'https://no.example.org'\n")
    (tmp_path / "home" / ".condarc").unlink()
    assert found(tmp_path, {"CONDA_EXE": str(tmp_path / "base/bin/conda")})["conda"] == ["alias.example.org:443"]


@pytest.mark.parametrize(
    "text", ["[global\nindex-url", "\0\xff", "index-url = x", "[global]\nindex-url = https://[bad", ""]
)
def test_a_file_that_can_not_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    for name in (
        "etc/pip.conf",
        "etc/apt/sources.list",
        "etc/apt/sources.list.d/a.sources",
        "home/.condarc",
        "lib/" + INDEX,
    ):
        write(tmp_path / name, text)
    assert found(tmp_path) == {}


def test_a_list_without_hosts_is_refused_by_name_with_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_settings, "machine_lists", dict)
    policy = Egress(allowed=("pypi",)).policy
    with pytest.raises(InvalidInputError, match=r"no hosts for the allow list pypi.*pip.*lists = \{ pypi = "):
        policy.checked(["pypi"], "org_a", "notice")
    assert policy.rules(["pypi"]) == ()


def test_an_operators_own_list_replaces_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_settings, "machine_lists", lambda: {"pypi": parsed_list("pypi", ["found.example.org"])})
    assert Egress(allowed=("pypi",)).policy.rules(["pypi"]) == ("found.example.org",)
    own = Egress(allowed=("pypi",), lists={"pypi": ("mirror.example.org",)})
    assert own.policy.rules(["pypi"]) == ("mirror.example.org",)
    assert EgressPolicy().lists.keys() == shipped().keys()
