"""Forms that browsers send, and whether they come from the console's own pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from sublet.values.errors import ForbiddenError, InvalidInputError

FORM_BYTES_MAX = 16_384
_FIELDS_MAX = 64
NEXT_LENGTH_MAX = 500
ONCE_LENGTH_MAX = 64


class ForeignFormError(ForbiddenError):
    """This form was sent from another site or an outdated page; open the page in the console and submit the form again."""

    code = "foreign_form"


class FormTooLongError(InvalidInputError):
    """The form is too long; shorten what you entered."""

    code = "form_too_long"
    status = 413


@dataclass(frozen=True, slots=True)
class Form:
    """What a form sent, each field's first value; `too_long` where it was longer than FORM_BYTES_MAX."""

    fields: dict[str, str] = field(default_factory=dict)
    too_long: bool = False

    def text(self, name: str) -> str:
        """The field, empty where it is missing. Raises FormTooLongError."""
        if self.too_long:
            raise FormTooLongError()
        return self.fields.get(name, "")

    def once(self) -> str:
        """What tells one drawing of a form from another: the field `once`. Raises ForeignFormError where it has none."""
        key = self.text("once")
        if not 0 < len(key) <= ONCE_LENGTH_MAX or not key.isalnum():
            raise ForeignFormError()
        return key

    def number(self, name: str, what: str) -> int:
        """The field as a whole number. Raises InvalidInputError."""
        text = self.text(name).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise InvalidInputError(f"{what} must be a whole number")
        return int(text)


async def read_form(request: Request) -> Form:
    """A dependency: the form in a request's body."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            return Form(too_long=True)
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        return Form(too_long=True)
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return Form(fields)


def refuse_foreign(request: Request) -> None:
    """Browsers say where a form comes from; one from elsewhere is refused whatever cookies it carries. What says nothing at all
    is no browser, which sends no cookies of its own accord; a form token tells those apart where there is a session."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in ("same-origin", "none") or foreign:
        raise ForeignFormError()


def own_path(path: str, default: str = "/") -> str:
    """`path` if it leads to a page of the console, else `default`: a link may say where to go on after signing in, and may not
    lead anywhere else."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and len(path) <= NEXT_LENGTH_MAX
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if own and plain else default


def whole(text: str, what: str, most: int) -> int:
    """A number that was typed, from 1 to `most`. Raises InvalidInputError."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 0 < int(text) <= most:
        raise InvalidInputError(f"{what} must be a whole number from 1 to {most}")
    return int(text)
