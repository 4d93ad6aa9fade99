"""Query strings that ask for providers: resources, required traits, member_of, in_tree, for each group of a request.

Source: Placement API, "Resource providers" and "Allocation candidates"; what each microversion understands is in its
history of REST API versions.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Iterable

from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest
from nova_fast.queries import placement_names
from nova_fast.queries.placement_search import Conditions
from nova_fast.queries.reading import Reader

BAD_VALUE = "placement.query.bad_value"
_AMOUNT_DIGITS_MAX = 18
_FORM = "?resources=VCPU:2,MEMORY_MB:1024"


def read_conditions(request: Request, values: dict[str, list[str]], suffix: str = "") -> Conditions:
    """The conditions under ``resources``, ``required``, ``member_of`` and ``in_tree`` with a suffix. Raises BadRequest.

    Of what may be given once only, the last counts.
    """
    resources = values.get(f"resources{suffix}")
    in_tree = values.get(f"in_tree{suffix}")
    required, forbidden = _read_traits(request, values.get(f"required{suffix}", []))
    member_of, not_in = _read_member_of(request, values.get(f"member_of{suffix}", []), suffix)
    return Conditions(
        resources={} if resources is None else read_resources(resources[-1]),
        required=required,
        forbidden=forbidden,
        member_of=member_of,
        not_in=not_in,
        in_tree=None if in_tree is None else _uuid(in_tree[-1].strip(), "in_tree"),
    )


def check_names(snapshot: Reader, conditions: Iterable[Conditions], of_traits: str = "") -> None:
    """Whether every resource class and trait that is named exists. Raises BadRequest."""
    for one in conditions:
        for name in one.resources:
            if not placement_names.has_resource_class(snapshot, name):
                raise BadRequest(f"Invalid resource class in resources parameter: No such resource class {name}.")
        for trait in sorted(one.forbidden.union(*one.required)):
            if not placement_names.has_trait(snapshot, trait):
                raise BadRequest(f"{of_traits}No such trait(s): {trait}.")


def read_resources(text: str) -> dict[str, int]:
    """``VCPU:1,MEMORY_MB:512`` → amounts. Raises BadRequest."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = (one.strip() for one in part.partition(":"))
        if not colon or not name or name in found:
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"{_FORM}. Got: {part[:200] or 'empty string'}."
            )
        sign, digits = ("-", amount[1:]) if amount.startswith("-") else ("", amount)
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _AMOUNT_DIGITS_MAX):
            raise BadRequest(f"Requested resource {name[:80]} expected positive integer amount. Got: {amount[:80]}.")
        if sign or int(digits) < 1:
            raise BadRequest(f"Requested resource {name[:80]} requires amount >= 1. Got: {amount[:80]}.")
        found[name] = int(digits)
    return found


def read_traits(
    text: str, *, forbidden_too: bool, any_of: bool = False
) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """``HW_ARCH_X86_64,!COMPUTE_STATUS_DISABLED`` or ``in:A,B`` → (sets of which one must be there, forbidden).

    Raises BadRequest.
    """
    refused = "Invalid query string parameters: "
    if text.startswith("in:"):
        if not any_of:
            raise BadRequest(f"{refused}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion "
                             f"1.39. Got: {text[:200]}")  # fmt: skip
        alternatives = frozenset(name.strip() for name in text.removeprefix("in:").split(","))
        if "" in alternatives or any(name.startswith("!") for name in alternatives):
            raise BadRequest(
                f"{refused}Expected 'required' parameter value of the form: in:HW_CPU_X86_VMX,CUSTOM_MAGIC. "
                f"Got an empty trait or a forbidden one in: {text[:200]}"
            )
        return (alternatives,), frozenset()
    names = [name.strip() for name in text.split(",")]
    forbidden = frozenset(name.lstrip("!") for name in names if name.startswith("!"))
    form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if forbidden_too else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    if "" in names or "" in forbidden or (forbidden and not forbidden_too):
        wrong = "Got an empty trait in" if "" in names or "" in forbidden else "Got"
        raise BadRequest(f"{refused}Expected 'required' parameter value of the form: {form}. {wrong}: {text[:200]}")
    return tuple(frozenset((name,)) for name in names if not name.startswith("!")), forbidden


def _read_traits(request: Request, texts: list[str]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    any_of = request.at_least("1.39")
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for text in texts if any_of else texts[-1:]:
        some, others = read_traits(text, forbidden_too=request.at_least("1.22"), any_of=any_of)
        required += some
        forbidden |= others
    return tuple(required), frozenset(forbidden)


def _read_member_of(
    request: Request, texts: list[str], suffix: str
) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    if len(texts) > 1 and not request.at_least("1.24"):
        raise BadRequest(f"Multiple member_of{suffix} parameters are not supported")
    inside: list[frozenset[str]] = []
    outside: set[str] = set()
    for text in texts:
        match = re.fullmatch(r"(!?)((?:in:)?)(.*)", text, re.DOTALL)
        assert match is not None
        negated, several, rest = match.groups()
        if "," in rest and not several:
            raise BadRequest(
                "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid "
                f"microversion. Got: {text[:200]}"
            )
        named = frozenset(_uuid(one, "member_of") for one in rest.split(","))
        if not negated:
            inside.append(named)
        elif request.at_least("1.32"):
            outside |= named
        else:
            raise BadRequest(f"Forbidden member_of{suffix} parameters are not supported in the specified microversion")
    return tuple(inside), frozenset(outside)


def _uuid(text: str, field: str) -> str:
    try:
        return str(uuids.UUID(text))
    except ValueError:
        raise BadRequest(
            f"Invalid query string parameters: Expected '{field}' parameter to contain valid UUID(s). Got: {text[:80]}"
        ) from None
