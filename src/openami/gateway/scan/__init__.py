"""Scan: what answers on a line nobody has described yet, and how it is to be configured.

findings                        pure: what a scan can say: meters, clashes, noise
conversation                    pure: one question after the other, as a generator without a port
framing                         pure: Modbus frames as a scan hears them
modbus, dlms, iec               pure: a protocol's questions, and what their answers prove
search                          pure: what is asked in which order, led by what was found
proposal                        pure: findings → addresses that are free, and the lines of a configuration
ports, scanning                 the shells: a serial port or an endpoint, and a search run on it in bounded time

A scan only reads (decision 0060): every question it can put stands in `modbus`, `dlms` and `iec`.
"""

from openami.gateway.scan.findings import (
    Address,
    Clash,
    Finding,
    Found,
    Noise,
    PortSetting,
    Protocol,
    ScanResult,
)

__all__ = [
    "Address",
    "Clash",
    "Finding",
    "Found",
    "Noise",
    "PortSetting",
    "Protocol",
    "ScanResult",
]
