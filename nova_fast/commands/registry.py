"""Which function does which command."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from nova_fast.model.base import Message
from nova_fast.state.transaction import Transaction

C = TypeVar("C", bound=Message)

_FUNCTIONS: dict[type[Message], Callable[[Transaction, Any], Message]] = {}


def command(
    request_type: type[C],
) -> Callable[[Callable[[Transaction, C], Message]], Callable[[Transaction, C], Message]]:
    """Declare that a function does a command."""

    def register(function: Callable[[Transaction, C], Message]) -> Callable[[Transaction, C], Message]:
        assert request_type not in _FUNCTIONS, f"{request_type.__name__} is done twice"
        _FUNCTIONS[request_type] = function
        return function

    return register


def run(tx: Transaction, request: Message) -> Message:
    """Do a command in an open transaction. Raises NovaFastError; then the caller takes the transaction back."""
    return _FUNCTIONS[type(request)](tx, request)


def load_all() -> dict[type[Message], Callable[[Transaction, Any], Message]]:
    """Import every file of this room, so that every command is known; returns what there is."""
    package = importlib.import_module("nova_fast.commands")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.commands.{module.name}")
    return _FUNCTIONS
