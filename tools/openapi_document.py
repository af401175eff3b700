"""Writes the OpenAPI document that the control plane serves, for the checks of `.ci/run`: `openapi_document.py FILE`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from fastapi.testclient import TestClient

from sublet.control.plane import ControlPlane, build_api
from sublet.simulation.world import World


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "world")
        try:
            document = TestClient(build_api(world.system, ControlPlane(world.system))).get("/v1/openapi.json").json()
        finally:
            world.close()
    Path(sys.argv[1]).write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
