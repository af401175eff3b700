"""Reading images: layers and whiteouts as OCI says, and nothing of a hostile archive gets anywhere."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.leases.images.archives import SHELL, Entry, layout, special, tar

from sublet.leases.images.layers import Config, Spool, machine, merge, read_image, write_tar
from sublet.leases.images.model import ImageLimits, ImageRefusedError, usable_environment
from sublet.leases.images.tree import Tree

LIMITS = ImageLimits(unpacked_mib_max=8, files_max=100)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(content: bytes, limits: ImageLimits = LIMITS) -> tuple[Tree, Config, Spool]:
    Path("upload").write_bytes(content)
    spool = Spool(limits, len(content), lambda done: None)
    try:
        config = read_image(Path("upload"), spool)
        return merge(spool, limits)[0], config, spool
    except ImageRefusedError:
        spool.close()
        raise


def files(content: bytes, limits: ImageLimits = LIMITS) -> dict[str, bytes | str | None]:
    """What the tar for the squashfs holds: bytes of files, targets of links, None for directories."""
    tree, _, spool = read(content, limits)
    out = io.BytesIO()
    write_tar(tree, spool, out, lambda done: None)
    spool.close()
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as whole:
        for member in whole:
            assert (member.uid, member.gid) == (0, 0) and not member.mode & 0o6000
            assert member.isreg() or member.issym() or member.isdir()
            body = whole.extractfile(member) if member.isreg() else None
            found[member.name] = body.read() if body else member.linkname if member.issym() else None
    return found


def test_layers_are_merged_and_whiteouts_remove_what_lies_below() -> None:
    base = tar(
        [*SHELL, ("etc/a", b"1", 0o644), ("etc/b", b"2", 0o644), ("opt/x/y", b"3", 0o644), ("opt/z", b"4", 0o644)]
    )
    upper = tar(
        [("etc/.wh.a", b"", 0), ("etc/b", b"new", 0o644), ("opt/.wh..wh..opq", b"", 0), ("opt/kept", b"5", 0o644)]
    )
    found = files(layout([base, upper]))
    assert found["etc/b"] == b"new" and found["opt/kept"] == b"5"
    assert not {"etc/a", "opt/z", "opt/x", "opt/x/y", "etc/.wh.a"} & set(found)


def test_a_whiteout_spares_its_own_layer_and_a_folder_may_replace_a_file_and_the_reverse() -> None:
    base = tar([*SHELL, ("a", b"file", 0o644), ("b/inner", b"1", 0o644)])
    upper = tar([(".wh.b", b"", 0), ("b", b"file now", 0o644), special("a", tarfile.DIRTYPE), ("a/inner", b"2", 0o644)])
    found = files(layout([base, upper]))
    assert found["b"] == b"file now" and found["a"] is None and found["a/inner"] == b"2" and "b/inner" not in found


@pytest.mark.parametrize("packed", ["plain", "gz", "bz2", "xz", "zst", "docker.gz"])
def test_every_kind_of_archive_is_the_same_image(packed: str) -> None:
    plain = tar([*SHELL, ("etc/a", b"1", 0o644)])
    if packed == "docker.gz":
        config = f'{{"config": {{"Env": ["A=b"]}}, "architecture": "{machine()}"}}'
        entries: list[Entry] = [("manifest.json", b'[{"Config": "c.json", "Layers": ["l/layer.tar"]}]', 0o644)]
        content = tar([*entries, ("c.json", config.encode(), 0o644), ("l/layer.tar", plain, 0o644)], "w:gz")
    elif packed == "zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        content = subprocess.run(["zstd", "-qc"], input=plain, capture_output=True, check=True).stdout
    else:
        make: dict[str, Callable[[bytes], bytes]] = {
            "plain": bytes,
            "gz": gzip.compress,
            "bz2": bz2.compress,
            "xz": lzma.compress,
        }
        content = make[packed](plain)
    assert files(content) == {"bin": None, "bin/sh": b"#!shell\n", "etc": None, "etc/a": b"1"}


def test_the_configuration_gives_digest_and_environment() -> None:
    _, config, spool = read(layout([tar(SHELL)], ["PATH=/opt/bin:/bin", "BAD\nNAME=x", "LD_PRELOAD=/x.so", 'Q=a"b']))
    assert config.manifest.startswith("sha256:") and len(config.manifest) == 71
    spool.close()
    assert usable_environment(config.environment) == {"PATH": "/opt/bin:/bin"}
    with pytest.raises(ImageRefusedError, match="is for riscv"):
        read(layout([tar(SHELL)], architecture="riscv64"))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([("../etc/passwd", b"x", 0o644)], "has '..' in its name"),
        ([("a/../../b", b"x", 0o644)], "has '..' in its name"),
        ([special("h", tarfile.LNKTYPE, "/etc/shadow")], "points to '/etc/shadow', which is no file"),
        ([special("h", tarfile.LNKTYPE, "../../etc/shadow")], "which is no file of the image"),
        ([("a", b"x", 0o644), ("a/b", b"y", 0o644)], "below something that is not a directory"),
        ([special("l", tarfile.SYMTYPE, "l"), ("l/b", b"y", 0o644)], "below something that is not a directory"),
        ([("n" * 300, b"x", 0o644)], "too deep or too long"),
        ([("d/" * 250 + "x", b"x", 0o644)], "too deep or too long"),
        ([("d/" * 120 + "x", b"x", 0o644)], "more than 100 files and directories"),
        ([("manifest.json", b"[", 0o644)], "is not JSON"),
    ],
)
def test_what_would_leave_the_root_or_makes_no_sense_is_refused(entries: list[Entry], told: str) -> None:
    with pytest.raises(ImageRefusedError, match=told.replace("(", r"\(")):
        files(tar([*SHELL, *entries]))


def test_what_only_attacks_the_machine_is_neutralized() -> None:
    found = files(
        tar(
            [
                *SHELL,
                ("/absolute", b"1", 0o644),
                ("suid", b"2", 0o6755),
                special("dev/sda", tarfile.BLKTYPE),
                special("dev/mem", tarfile.CHRTYPE),
                special("pipe", tarfile.FIFOTYPE),
                special("out", tarfile.SYMTYPE, "/etc"),
                ("out/planted", b"3", 0o644),
                special("up", tarfile.SYMTYPE, "../../../.."),
                ("up/top", b"4", 0o644),
                special("hard", tarfile.LNKTYPE, "bin/sh"),
            ]
        )
    )
    assert found["absolute"] == b"1" and found["etc/planted"] == b"3" and found["top"] == b"4"
    assert found["out"] == "/etc" and found["hard"] == b"#!shell\n"
    assert not {"dev/sda", "dev/mem", "pipe"} & set(found)
    assert not Path("/etc/planted").exists()


def test_bombs_are_stopped_by_bytes_ratio_and_number() -> None:
    many = tar([(f"f{number}", b"", 0o644) for number in range(101)])
    with pytest.raises(ImageRefusedError, match="more than 100 files"):
        files(many)
    with pytest.raises(ImageRefusedError, match="8 MiB are allowed"):
        files(tar([*SHELL, ("zeros", bytes(9 << 20), 0o644)]))
    zeros = gzip.compress(bytes(70 << 20))
    with pytest.raises(ImageRefusedError, match="expands to far more"):
        files(zeros, replace(LIMITS, unpacked_mib_max=100, ratio_max=10))
    with pytest.raises(ImageRefusedError, match="larger than allowed"):
        files(zeros)
    with pytest.raises(ImageRefusedError, match="too long"):
        files(layout([tar(SHELL)] * 257))


def test_damage_is_told_as_such() -> None:
    good = tar([*SHELL, ("big", os.urandom(100_000), 0o644)], "w:gz")
    for content in (b"", b"no tar at all", good[:-5000], b"\x1f\x8b" + bytes(100), b"\x28\xb5\x2f\xfd" + bytes(50)):
        with pytest.raises(ImageRefusedError):
            files(content)
    with pytest.raises(ImageRefusedError, match="damaged: its bytes have another digest"):
        files(layout([tar(SHELL)], spoil=0))
    with pytest.raises(ImageRefusedError, match="is not a SHA-256 digest"):
        files(
            tar([("oci-layout", b"{}", 0o644), ("index.json", b'{"manifests": [{"digest": "sha256:../../x"}]}', 0o644)])
        )
