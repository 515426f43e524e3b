"""What `python -m endcap_serving.gateway.envoy` does, with names looked up at a port of loopback: `--dns-port PORT`.

An xDS service that says nothing is replaced sooner.
"""

from __future__ import annotations

import sys

from endcap_serving.gateway import bootstrap, envoy, xds_process
from endcap_serving.gateway.clusters import Json, build_address


def main(words: list[str]) -> int:
    at = words.index("--dns-port")
    port = int(words[at + 1])
    made = envoy.build_configuration
    xds_process.HUNG = 1.5

    def configuration(given: object) -> Json:
        there = bootstrap.build_dns_resolver(
            resolvers=[build_address("127.0.0.1", port)], dns_resolver_options={"no_default_search_domain": True}
        )
        return {**made(given), "typed_dns_resolver_config": there}  # type: ignore[arg-type]

    envoy.build_configuration = configuration
    return envoy.main(words[:at] + words[at + 2 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
