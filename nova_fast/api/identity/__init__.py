"""The Identity API v3 (Keystone's): tokens, projects, users, roles, the catalog, application credentials.

Groups, federation, OAuth, trusts, EC2 credentials, inherited roles and access rules are not here.
"""

from nova_fast.api.identity import catalog, credentials, projects, roles, tokens, users, versions
from nova_fast.api.identity.face import face

__all__ = ["catalog", "credentials", "face", "projects", "roles", "tokens", "users", "versions"]
