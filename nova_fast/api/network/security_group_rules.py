"""``/v2.0/security-group-rules``. Source: Networking API v2.0, "Security group rules"."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, choose_fields, only, query_type
from nova_fast.api.network.security_groups import ensure_default
from nova_fast.api.network.shapes import Body, Identifier, Name, Number, number_or_unset, one_or_many, owner
from nova_fast.api.network.views import rule_view
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroupRules,
    DeleteSecurityGroupRule,
    NewSecurityGroupRule,
)
from nova_fast.queries import security_groups as queries

RuleQuery = query_type(
    "RuleQuery", "id", "security_group_id", "remote_group_id", "direction", "protocol", "port_range_min",
    "port_range_max", "ethertype", "remote_ip_prefix", tags=False,
)  # fmt: skip


class RuleBody(Body, frozen=True):
    """What a new rule may say of itself."""

    security_group_id: Identifier
    direction: Name
    ethertype: Name = "IPv4"
    protocol: Name | int | None = None
    port_range_min: Number | None = None
    port_range_max: Number | None = None
    remote_ip_prefix: Name | None = None
    remote_group_id: Identifier | None = None
    description: Name = ""
    project_id: Identifier | UnsetType = UNSET
    tenant_id: Identifier | UnsetType = UNSET

    def new(self) -> NewSecurityGroupRule:
        """As a command says it. Raises BadRequest."""
        low = number_or_unset(self.port_range_min, "port_range_min")
        high = number_or_unset(self.port_range_max, "port_range_max")
        return NewSecurityGroupRule(
            security_group_id=self.security_group_id,
            direction=self.direction,
            project_id=owner(self.project_id, self.tenant_id),
            ethertype=self.ethertype,
            protocol=None if self.protocol is None else str(self.protocol),
            port_range_min=None if low is UNSET else low,
            port_range_max=None if high is UNSET else high,
            remote_ip_prefix=self.remote_ip_prefix,
            remote_group_id=self.remote_group_id,
            description=self.description,
        )


class CreateBody(Body, frozen=True):
    security_group_rule: RuleBody | UnsetType = UNSET
    security_group_rules: list[RuleBody] | UnsetType = UNSET


@face.route("GET", "/security-group-rules", policy="reader", errors=(400,), query=RuleQuery)
async def list_security_group_rules(request: Request) -> dict[str, Any]:
    """The rules the caller may see."""
    await ensure_default(request)
    with request.snapshot() as snapshot:
        rules = queries.visible_rules(snapshot, request.caller, group_id=only(request, "security_group_id"))
        rows = [rule_view(rule) for rule in rules]
    return answer_list(request, "security_group_rules", rows)


@face.route("POST", "/security-group-rules", ok=201, policy="member", errors=(400, 404, 409), body=CreateBody)
async def create_security_group_rules(request: Request) -> dict[str, Any]:
    """Make one rule, or several: all or none."""
    body = request.body
    bodies, bulk = one_or_many(body.security_group_rule, body.security_group_rules, "security_group_rule")
    command = CreateSecurityGroupRules(caller=request.caller, rules=tuple(body.new() for body in bodies))
    result = await request.command(command)
    views = [rule_view(rule) for rule in result.rules]
    return {"security_group_rules": views} if bulk else {"security_group_rule": views[0]}


@face.route("GET", "/security-group-rules/{rule_id}", policy="reader", errors=(404,))
async def show_security_group_rule(request: Request, rule_id: str) -> dict[str, Any]:
    """One rule."""
    with request.snapshot() as snapshot:
        rule = queries.need_rule(snapshot, request.caller, rule_id)
    return {"security_group_rule": choose_fields(request, rule_view(rule))}


@face.route("DELETE", "/security-group-rules/{rule_id}", ok=204, policy="member", errors=(404,))
async def delete_security_group_rule(request: Request, rule_id: str) -> None:
    """Remove a rule."""
    await request.command(DeleteSecurityGroupRule(caller=request.caller, rule_id=rule_id))
