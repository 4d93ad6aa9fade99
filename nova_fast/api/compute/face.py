"""The compute face: its manners. Importing this module imports every collection, so that all routes are declared."""

from __future__ import annotations

import importlib
import pkgutil

from nova_fast.api.framework.errors import NOVA
from nova_fast.api.framework.route import Face
from nova_fast.api.framework.versions import Microversions

MINIMUM_VERSION = "2.1"
#: The newest microversion whose every predecessor is done: clients negotiate down to it.
MAXIMUM_VERSION = "2.96"

face = Face(
    "compute",
    errors=NOVA,
    prefix="/v2.1",
    legacy_prefix="/v2",
    microversions=Microversions("compute", MINIMUM_VERSION, MAXIMUM_VERSION, "X-OpenStack-Nova-API-Version"),
    project_in_path=True,
)


def _import_collections() -> None:
    package = importlib.import_module("nova_fast.api.compute")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.api.compute.{module.name}")


_import_collections()
