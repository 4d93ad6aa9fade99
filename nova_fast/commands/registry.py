"""Which function does which command."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nova_fast.model.base import Message
from nova_fast.state.transaction import Transaction

C = TypeVar("C", bound=Message)

#: Does several commands of a type as one by one would; None when it cannot.
Together = Callable[[Transaction, Sequence[C]], list[Message] | None]

_FUNCTIONS: dict[type[Message], Callable[[Transaction, Any], Message]] = {}
_TOGETHER: dict[type[Message], Together[Any]] = {}


def command(
    request_type: type[C],
) -> Callable[[Callable[[Transaction, C], Message]], Callable[[Transaction, C], Message]]:
    """Declare that a function does a command."""

    def register(function: Callable[[Transaction, C], Message]) -> Callable[[Transaction, C], Message]:
        assert request_type not in _FUNCTIONS, f"{request_type.__name__} is done twice"
        _FUNCTIONS[request_type] = function
        return function

    return register


def together(request_type: type[C]) -> Callable[[Together[C]], Together[C]]:
    """Declare that a function does several commands of a type in less time than one by one."""

    def register(function: Together[C]) -> Together[C]:
        assert request_type not in _TOGETHER, f"{request_type.__name__} is done together twice"
        _TOGETHER[request_type] = function
        return function

    return register


def run(tx: Transaction, request: Message) -> Message:
    """Do a command in an open transaction. Raises NovaFastError; then the caller takes the transaction back."""
    return _FUNCTIONS[type(request)](tx, request)


def is_done_together(request: Message) -> bool:
    """Whether several commands like this take less time together."""
    return type(request) in _TOGETHER


def run_together(tx: Transaction, requests: Sequence[Message]) -> list[Message] | None:
    """Do several commands of one type; None when one by one is the way.

    Raises NovaFastError when one of them must be refused; then the caller takes the transaction back, and does each.
    """
    return _TOGETHER[type(requests[0])](tx, requests)


def load_all() -> dict[type[Message], Callable[[Transaction, Any], Message]]:
    """Import every file of this room, so that every command is known; returns what there is."""
    package = importlib.import_module("nova_fast.commands")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.commands.{module.name}")
    return _FUNCTIONS
