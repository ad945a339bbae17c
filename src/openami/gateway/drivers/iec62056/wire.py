"""The wire of a mode C line: one that can change its speed, or one that cannot."""

from openami.gateway.drivers.iec62056.options import LinePlan, Transport
from openami.gateway.wire import SerialWire, TcpWire, Wire


def wire_of(line: LinePlan) -> Wire:
    """Return the line's wire, closed."""
    options = line.options
    if options.transport is Transport.SERIAL:
        assert options.device is not None, "checked with the options"
        return SerialWire(options.device, baudrate=line.manner.baudrate, place=line.place)
    assert options.host is not None, "checked with the options"
    assert options.port is not None, "checked with the options"
    return TcpWire(options.host, options.port, place=line.place)
