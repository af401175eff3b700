"""Which paths there are, what may be done with each, and in whose form its errors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sublet.gateway.refusals import RouteNotFoundError
from sublet.gateway.surfaces.surface import Headers, Surface, marked

POST = (b"POST",)
READ = (b"GET", b"HEAD")
PATH_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class Route:
    """A path. `kind` is the kind of call of those that are served by callbacks; those without are served by the ASGI app.
    `shared`: several vendors have it, so whose it is shows in the headers. `takes` are the bytes of body that the app reads itself,
    as they come; without, it gets none."""

    surface: Surface
    methods: tuple[bytes, ...]
    kind: str = ""
    needs_key: bool = True
    shared: bool = False
    takes: int = 0

    @property
    def allow(self) -> bytes:
        """The value of the header `Allow`."""
        return b", ".join((*self.methods, b"OPTIONS"))


class Routes:
    """The routes of one listener."""

    def __init__(self, surfaces: Sequence[Surface], cold: Mapping[bytes, Route], *, hot: bool = True) -> None:
        """`cold` are the ASGI app's; one whose path ends in a slash stands for all paths below it. With `hot` the surfaces' own
        are served as well."""
        self.surface = surfaces[0]
        """Whose form an error has where no route is known."""
        self.exact = {
            path: Route(surface, POST, kind) for surface in surfaces if hot for path, kind in surface.routes.items()
        }
        self.exact |= {path: route for path, route in cold.items() if not path.endswith(b"/")}
        self._surfaces = tuple(surfaces) if hot else ()
        self._below = [(path, route) for path, route in cold.items() if path.endswith(b"/")]

    def marked(self, path: bytes, headers: Headers) -> Surface:
        """The surface one of whose prefixes the path or whose mark the headers have, else the first one."""
        return marked(self._surfaces, path, headers) if self._surfaces else self.surface

    def missing(self, path: bytes) -> RouteNotFoundError:
        """What to say of a path that there is not: to whom calls it, the manual of the operator is of no use."""
        known = ", ".join(
            f"{route.methods[0].decode()} {name.decode()}" for name, route in self.exact.items() if route.needs_key
        )
        asked = path.partition(b"?")[0][:PATH_SHOWN_MAX].decode("latin-1")
        return RouteNotFoundError(f"There is no {asked} here; there are {known}")

    def find(self, url: bytes) -> tuple[Route | None, bytes]:
        """The route of a request's target, and the target as the ASGI app is to see it: without a host, and without a slash
        at the end of its path."""
        path, mark, query = url.partition(b"?")
        if not path.startswith(b"/"):
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        path = path.rstrip(b"/") or b"/"
        route = self.exact.get(path) or self._varying(path, query)
        if route is None:
            route = next((below for prefix, below in self._below if path.startswith(prefix)), None)
        return route, path + mark + query

    def _varying(self, path: bytes, query: bytes) -> Route | None:
        for surface in self._surfaces:
            if (found := surface.find(path, query)) is not None:
                return Route(found[0], POST, found[1])
        return None
