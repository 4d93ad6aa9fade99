"""The version documents, without which clients switch microversions off, and the list of extensions.

Source: Compute API v2.1, "API versions" and "Extensions (deprecated)".
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.compute.face import MAXIMUM_VERSION, MINIMUM_VERSION, face
from nova_fast.api.framework.request import Request
from nova_fast.model.errors import NotFound

_UPDATED = {"v2.0": "2011-01-21T11:33:21Z", "v2.1": "2013-07-23T11:33:21Z"}
_DESCRIBED_BY = {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}
#: What was an extension once and is part of every v2.1; clients ask whether some of these are there.
_EXTENSIONS = {
    "os-availability-zone": "AvailabilityZone",
    "os-config-drive": "ConfigDrive",
    "os-console-output": "ConsoleOutput",
    "os-extended-availability-zone": "ExtendedAvailabilityZone",
    "os-extended-server-attributes": "ExtendedServerAttributes",
    "os-extended-status": "ExtendedStatus",
    "os-flavor-access": "FlavorAccess",
    "os-flavor-extra-specs": "FlavorExtraSpecs",
    "os-flavor-manage": "FlavorManage",
    "os-hosts": "Hosts",
    "os-hypervisors": "Hypervisors",
    "os-instance-actions": "InstanceActions",
    "os-keypairs": "Keypairs",
    "os-lock-server": "LockServer",
    "os-pause-server": "PauseServer",
    "os-quota-sets": "Quotas",
    "os-scheduler-hints": "SchedulerHints",
    "os-server-usage": "ServerUsage",
    "os-services": "Services",
    "os-simple-tenant-usage": "SimpleTenantUsage",
    "os-suspend-server": "SuspendServer",
    "os-user-data": "UserData",
}


def _entry(request: Request, identity: str) -> dict[str, Any]:
    current = identity == "v2.1"
    path = "v2.1" if current else "v2"
    return {
        "id": identity,
        "status": "CURRENT" if current else "SUPPORTED",
        "version": MAXIMUM_VERSION if current else "",
        "min_version": MINIMUM_VERSION if current else "",
        "updated": _UPDATED[identity],
        "links": [{"rel": "self", "href": f"{request.base_url}/{path}/"}],
    }


def _document(request: Request, identity: str) -> dict[str, Any]:
    entry = _entry(request, identity)
    number = identity.removeprefix("v")
    entry["links"].append(_DESCRIBED_BY)
    media = {"base": "application/json", "type": f"application/vnd.openstack.compute+json;version={number}"}
    return {"version": {**entry, "media-types": [media]}}


@face.route("GET", "/", policy="none", root=True)
async def list_versions(request: Request) -> dict[str, Any]:
    """Every version, for clients that only know the host."""
    return {"versions": [_entry(request, identity) for identity in _UPDATED]}


@face.route("GET", "", policy="none")
async def show_current_version(request: Request) -> dict[str, Any]:
    """The document of v2.1."""
    return _document(request, "v2.1")


@face.route("GET", "/v2", policy="none", root=True)
async def show_legacy_version(request: Request) -> dict[str, Any]:
    """The document of v2.0, which is v2.1 without microversions."""
    return _document(request, "v2.0")


@face.route("GET", "/versions/{version_id}", errors=(404,), policy="any")
async def show_version(request: Request, version_id: str) -> dict[str, Any]:
    """The document of a version by its id."""
    if version_id not in _UPDATED:
        raise NotFound(f"There is no version {version_id}.")
    return _document(request, version_id)


def _extension(alias: str) -> dict[str, Any]:
    return {
        "alias": alias,
        "name": _EXTENSIONS[alias],
        "description": "",
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
        "links": [],
    }


@face.route("GET", "/extensions")
async def list_extensions(request: Request) -> dict[str, Any]:
    """What was an extension before v2.1."""
    return {"extensions": [_extension(alias) for alias in _EXTENSIONS]}


@face.route("GET", "/extensions/{alias}", errors=(404,))
async def show_extension(request: Request, alias: str) -> dict[str, Any]:
    """One extension."""
    if alias not in _EXTENSIONS:
        raise NotFound(f"Extension {alias} could not be found.")
    return {"extension": _extension(alias)}
