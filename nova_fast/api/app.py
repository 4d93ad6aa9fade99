"""All faces in one ASGI application: a face answers on its own port."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from nova_fast.api.framework.build import Application, build
from nova_fast.api.framework.request import Commander, Runtime, Services
from nova_fast.api.framework.route import Face
from nova_fast.config import ApiConfig, Config
from nova_fast.queries.reading import Snapshots

#: The faces in the order in which documents list them; each is a package of this name that exports ``face``.
FACES = ("identity", "compute", "image", "network", "placement")


def load_face(name: str) -> Face:
    """The face of this name, with all its routes declared."""
    face = importlib.import_module(f"nova_fast.api.{name}").face
    assert isinstance(face, Face)
    return face


def port_of(config: ApiConfig, face: str) -> int:
    """The configured port of a face."""
    port = getattr(config, f"{face}_port")
    assert isinstance(port, int)
    return port


def build_app(
    config: Config, store: Snapshots, commander: Commander, services: Services, faces: Sequence[str] = FACES
) -> Application:
    """The ASGI application of one worker.

    ``store`` may be read-only; all changes go through ``commander``; ``services`` holds whatever else faces look up by
    type (the image store, the hub peer).
    """
    runtime = Runtime(config, store, commander, services)
    return build(runtime, [(port_of(config.api, name), load_face(name)) for name in faces])
