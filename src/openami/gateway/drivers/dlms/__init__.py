"""The DLMS/COSEM driver. What it keeps where, as a reader would look for it:

hdlc, wrapper, link             pure: frames and packets, and a message's way to one meter and back
axdr, data, apdu, acse          pure: what messages hold
ciphering, association          pure: keys, and the dialogue of one client with one meter
cosem, times, profile_generic   pure: what the objects' values mean
reading                         pure: what is asked of a meter, as dialogues (steps)
meter_map, map_files, maps/     meter types as data
options, key_file, invocation   the configuration, the keys, and the counter that only grows
wire, line, driver              the shells: ports, turns and faults, the entry point
"""

from openami.gateway.drivers.dlms.driver import DlmsDriver

__all__ = ["DlmsDriver"]
