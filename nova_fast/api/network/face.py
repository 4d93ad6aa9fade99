"""The network face: its manners. Importing this module imports every collection, so that all routes are declared."""

from __future__ import annotations

import importlib
import pkgutil

from nova_fast.api.framework.errors import NEUTRON
from nova_fast.api.framework.route import Face

face = Face("network", errors=NEUTRON, prefix="/v2.0")


def _import_collections() -> None:
    package = importlib.import_module("nova_fast.api.network")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.api.network.{module.name}")


_import_collections()
