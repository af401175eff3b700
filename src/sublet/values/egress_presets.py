"""The allow lists that Sublet ships, by name. An operator adds others as `egress.lists`."""

from __future__ import annotations

from collections.abc import Mapping

PRESETS: Mapping[str, tuple[str, ...]] = {
    "pypi": ("pypi.org:443", "files.pythonhosted.org:443"),
    "conda": ("conda.anaconda.org:443", "repo.anaconda.com:443", "repo.prefix.dev:443"),
    "apt": ("deb.debian.org", "security.debian.org", "archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"),
    "huggingface": ("huggingface.co:443", "*.huggingface.co:443", "*.hf.co:443"),
    "git": (
        "github.com:443",
        "codeload.github.com:443",
        "raw.githubusercontent.com:443",
        "objects.githubusercontent.com:443",
        "release-assets.githubusercontent.com:443",
        "gitlab.com:443",
        "bitbucket.org:443",
        "codeberg.org:443",
    ),
}
