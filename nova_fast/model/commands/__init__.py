"""What a face may ask of the conductor, one file for each noun, and what it gets back."""

from __future__ import annotations

import importlib
import pkgutil

from nova_fast.model.base import Message
from nova_fast.model.tasks import Done

_modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

#: Every command, and every result a command may have: those of its noun, or that it is done.
COMMANDS: tuple[type[Message], ...] = tuple(command for module in _modules for command in module.COMMANDS)
RESULTS: tuple[type[Message], ...] = (Done, *(result for module in _modules for result in module.RESULTS))
