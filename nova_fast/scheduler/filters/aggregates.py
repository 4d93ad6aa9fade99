"""Filters on the metadata of a host's aggregates. A value with commas is a list of values."""

from __future__ import annotations

from collections.abc import Hashable

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostFacts
from nova_fast.scheduler.filters.extra_specs import matches
from nova_fast.scheduler.filters.kinds import FactsFilter
from nova_fast.scheduler.image_properties import image_properties

_SCOPE = "aggregate_instance_extra_specs"
_TENANT = "filter_tenant_id"


class AggregateInstanceExtraSpecs(FactsFilter):
    """Each extra spec without a scope, or with the scope of this filter, matches a value of the host's aggregates."""

    name = "AggregateInstanceExtraSpecsFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return self._asked(request) or None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        metadata = facts.metadata()
        return all(
            any(matches(value, wanted) for value in metadata.get(key, ())) for key, wanted in self._asked(request)
        )

    def _asked(self, request: PlacementRequest) -> tuple[tuple[str, str], ...]:
        scoped = ((*key.partition(":"), wanted) for key, wanted in request.extra_specs.items())
        return tuple(
            sorted(
                (rest if colon else scope, wanted)
                for scope, colon, rest, wanted in scoped
                if not colon or scope == _SCOPE
            )
        )


class AggregateImagePropertiesIsolation(FactsFilter):
    """What an aggregate says under the name of an image property must include the image's value, if it has one."""

    name = "AggregateImagePropertiesIsolation"

    def key(self, request: PlacementRequest) -> Hashable:
        return self._texts(request) or None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        metadata = facts.metadata()
        return all(name not in metadata or text in metadata[name] for name, text in self._texts(request))

    def _texts(self, request: PlacementRequest) -> frozenset[tuple[str, str]]:
        namespace = self.options.aggregate_image_properties_isolation_namespace
        start = namespace + self.options.aggregate_image_properties_isolation_separator if namespace else ""
        properties = image_properties(request).items()
        return frozenset((name, str(value)) for name, value in properties if value and name.startswith(start))


class AggregateMultiTenancyIsolation(FactsFilter):
    """Aggregates with ``filter_tenant_id…`` are for the projects named there."""

    name = "AggregateMultiTenancyIsolation"

    def key(self, request: PlacementRequest) -> Hashable:
        return (request.project_id,)

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        named = {
            project for key, projects in facts.metadata().items() if key.startswith(_TENANT) for project in projects
        }
        return not named or request.project_id in named


class AggregateTypeAffinity(FactsFilter):
    """Aggregates with ``instance_type`` are for the flavors named there."""

    name = "AggregateTypeAffinityFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return (request.flavor_name,)

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        values = facts.values("instance_type")
        return not values or any(request.flavor_name in [name.strip() for name in text.split(",")] for text in values)
