"""The wire of a DLMS line."""

from openami.gateway.drivers.dlms.options import LinePlan, Transport
from openami.gateway.wire import SerialWire, TcpWire, Wire


def wire_of(line: LinePlan) -> Wire:
    """Return the line's wire, closed."""
    options = line.options
    if options.transport is Transport.HDLC:
        assert options.device is not None, "checked with the options"
        return SerialWire(
            options.device,
            baudrate=options.baudrate,
            place=line.place,
            parity=options.parity,
            stopbits=options.stopbits,
        )
    assert options.host is not None, "checked with the options"
    return TcpWire(options.host, options.port, place=line.place)
