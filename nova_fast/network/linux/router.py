"""nft scripts for the routers: source NAT and the walls around a network's namespace, and this machine's own NAT.

Inside a namespace nothing is let in from the outside but answers and pings, and a guest reaches of the router itself
only DHCP, ping and the metadata server.
"""

from __future__ import annotations

from nova_fast.network.linux.plan import METADATA_ADDRESS, METADATA_PORT, NetworkPlan

ROUTER_TABLE = "nova_fast"


def render_router(network: NetworkPlan) -> str:
    """The rules inside a network's namespace, as one transaction."""
    own = sorted({str(subnet.prefix) for subnet in network.subnets if subnet.prefix.version == 4})
    masquerade = [f'oifname "ext" ip saddr {{ {", ".join(own)} }} masquerade'] if own else []
    lines = [
        f"table inet {ROUTER_TABLE} {{",
        "}",
        f"delete table inet {ROUTER_TABLE}",
        f"table inet {ROUTER_TABLE} {{",
        "chain host {",
        "type filter hook input priority filter; policy drop;",
        'iifname "lo" accept',
        "ct state established,related accept",
        "ct state invalid drop",
        "icmp type echo-request accept",
        'iifname "lan" udp sport 68 udp dport 67 accept',
        f'iifname "lan" ip daddr {METADATA_ADDRESS} tcp dport {METADATA_PORT} accept',
        'iifname "lan" icmpv6 type { echo-request, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept',
        "}",
        "chain passing {",
        "type filter hook forward priority filter; policy drop;",
        "ct state established,related accept",
        "ct state invalid drop",
        f"ip daddr {METADATA_ADDRESS} drop",
        'iifname "lan" oifname "ext" accept',
        'iifname "lan" oifname "lan" accept',
        'iifname "ext" oifname "lan" ct status dnat accept',
        "}",
        "chain outgoing {",
        "type nat hook postrouting priority srcnat; policy accept;",
        *masquerade,
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def host_table(cloud_id: str) -> str:
    """The name of the table (family ip) in which this machine hides the routers behind itself."""
    return f"nfnat_{cloud_id}"


def render_host(cloud_id: str, external_cidr: str, external_bridge: str) -> str:
    """Source NAT of the routers' addresses, and of nothing else, where they leave this machine."""
    table = host_table(cloud_id)
    return (
        f"table ip {table} {{\n}}\ndelete table ip {table}\ntable ip {table} {{\n"
        "chain outgoing {\ntype nat hook postrouting priority srcnat; policy accept;\n"
        f'ip saddr {external_cidr} ip daddr != {external_cidr} oifname != "{external_bridge}" masquerade\n}}\n}}\n'
    )
