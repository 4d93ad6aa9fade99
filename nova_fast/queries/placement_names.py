"""Which traits and resource classes there are, and which are in use."""

from __future__ import annotations

from nova_fast.model.placement_names import RESOURCE_CLASSES, TRAITS
from nova_fast.queries import placement
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def resource_classes(reader: Reader) -> list[str]:
    """Every resource class: the standard ones, then those that operators made."""
    return [*RESOURCE_CLASSES, *(record.name for record in reader.scan(tables.RESOURCE_CLASSES))]


def has_resource_class(reader: Reader, name: str) -> bool:
    """Whether there is such a resource class."""
    return name in _STANDARD_CLASSES or reader.get(tables.RESOURCE_CLASSES, name) is not None


def resource_class_in_use(reader: Reader, name: str) -> bool:
    """Whether a provider has an inventory of it. Looks at every provider."""
    found = any(own.resource_class == name for record in reader.scan(tables.PROVIDERS) for own in record.inventories)
    return found or any(own.resource_class == name for host in reader.scan(tables.HOSTS) for own in host.inventories)


def traits(reader: Reader) -> frozenset[str]:
    """Every trait: the standard ones, and those that operators made."""
    return TRAITS | {record.name for record in reader.scan(tables.TRAITS)}


def has_trait(reader: Reader, name: str) -> bool:
    """Whether there is such a trait."""
    return name in TRAITS or reader.get(tables.TRAITS, name) is not None


def traits_in_use(reader: Reader) -> frozenset[str]:
    """The traits that a provider has. Looks at every provider."""
    used = frozenset(trait for host in reader.scan(tables.HOSTS) for trait in placement.traits_of(host))
    return used | {trait for record in reader.scan(tables.PROVIDERS) for trait in record.traits}


_STANDARD_CLASSES = frozenset(RESOURCE_CLASSES)
