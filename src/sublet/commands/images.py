"""`sublet image`: root file systems that leases run on."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, progress, say
from sublet.shown import Columns, time
from sublet.values.errors import InvalidInputError, UnavailableError
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Images: root file systems that leases run on, instead of the programs of the machine.",
)

PART_BYTES = 4 << 20
POLL_S = 0.5
Name = Annotated[str, typer.Argument(help="Name or id of an image, as shown by `sublet image ls`.")]

_COLUMNS: Columns = {
    "name": "image",
    "state": "state",
    "mib": "MiB",
    "files": "files",
    "owner": "whose",
    "digest": "digest",
    "used_at": time("last used"),
    "id": "id",
}


@app.command("import")
def import_image(
    name: Annotated[str, typer.Argument(help="Lowercase letters, digits, dots, hyphens and underscores.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A tar of a root file system (plain, gzip, bzip2, xz or zstd), an OCI layout (directory or tar), or what "
            "`docker save` writes."
        ),
    ],
    wait: Annotated[bool, typer.Option(help="Wait until leases can use it.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Upload an image and import it. If the upload is interrupted, the same command continues it."""
    with _opened(source) as (file, size):
        digest = _digest(file, size)
        remote = connect()
        body = {"name": name, "size_bytes": size, "sha256": digest}
        image = remote.document("images.create", body=body, idempotency_key=new_id("req"))
        if image["state"] == "uploading":
            image = _send(remote, image, file, size)
    if wait:
        image = _imported(remote, image)
    _shown(image, as_json)


@app.command("ls")
def list_images(as_json: JsonFlag = False) -> None:
    """List your images and those that the operator offers to everybody."""
    found = connect().collected("images.list_images")
    if as_json:
        print_json(found)
        return
    rows = [_row(item) for item in found["images"]]
    print_rows(rows, _COLUMNS, "no images; import one with `sublet image import NAME FILE`")


@app.command()
def show(name: Name, as_json: JsonFlag = False) -> None:
    """Show an image, with its shell and the variables that its sessions get."""
    image = connect().document("images.show", name)
    _shown(image, as_json)
    if not as_json and image["shell"]:
        say(f"shell: {image['shell']}")
        for variable, value in image["environment"].items():
            say(f"  {variable}={value}")


@app.command()
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove an image. Refused while a lease runs on it."""
    remote = connect()
    if not yes:
        typer.confirm(f"Remove image {name}?", abort=True, err=True)
    _shown(remote.document("images.remove", name), as_json)


@contextmanager
def _opened(source: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file to send and its size; a directory that is an OCI layout is put into a tar first. Raises InvalidInputError."""
    if source.is_dir():
        if not (source / "index.json").is_file():
            raise InvalidInputError(
                f"{source} is no OCI layout (it has no index.json); make a tar of a root file system with "
                f"`tar -C {source} -cf image.tar .`"
            )
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                for path in sorted(source.rglob("*")):
                    tar.add(path, str(path.relative_to(source)), recursive=False)
            size = packed.tell()
            packed.seek(0)
            yield packed, size
        return
    try:
        with source.open("rb") as file:
            yield file, source.stat().st_size
    except OSError as error:
        raise InvalidInputError(f"{source} can't be read ({error.strerror})") from error


def _digest(file: BinaryIO, size: int) -> str:
    found, done = hashlib.sha256(), 0
    with progress("hashing") as tell:
        while part := file.read(PART_BYTES):
            found.update(part)
            done += len(part)
            tell(done / max(1, size))
    return found.hexdigest()


def _send(remote: Client, image: dict[str, Any], file: BinaryIO, size: int) -> dict[str, Any]:
    with progress("uploading") as tell:
        while image["state"] == "uploading":
            offset = image["received_bytes"]
            file.seek(offset)
            image = remote.document(
                "images.upload",
                image["id"],
                body=file.read(min(PART_BYTES, size - offset)),
                query={"offset": offset},
                content_type="application/octet-stream",
            )
            tell(image["received_bytes"] / size)
    return image


def _imported(remote: Client, image: dict[str, Any]) -> dict[str, Any]:
    """The image once it is ready. Raises UnavailableError where it never will be."""
    with progress("importing") as tell:
        while image["state"] == "importing":
            tell(image["progress"] / 100)
            clock.sleep(POLL_S)
            image = remote.document("images.show", image["id"])
    if image["state"] != "ready":
        raise UnavailableError(f"image {image['name']} is {image['state']}: {image['last_error'] or 'no reason given'}")
    return image


def _row(image: dict[str, Any]) -> dict[str, Any]:
    size = image["bytes"] or image["upload_bytes"]
    return {**image, "mib": f"{size / (1 << 20):.1f}", "owner": "operator" if image["shared"] else "yours"}


def _shown(image: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(image)
        return
    print_rows([_row(image)], _COLUMNS, "")
    if image["last_error"]:
        say(f"last error: {image['last_error']}")
