"""The driver of meters that read themselves out by IEC 62056-21. What it keeps where, as a reader would look for
it:

characters, messages, block     pure: what is on the line
dialogue                        pure: what is sent when, as acts of a generator
data_sets, units, times         pure: what a meter's lines mean
read_out                        pure: … for the registers that are wanted
meter_map, map_files, maps/     meter types as data
options                         the configuration
wire, line, driver              the shells: ports, turns and faults, the entry point
"""

from openami.gateway.drivers.iec62056.driver import Iec62056Driver

__all__ = ["Iec62056Driver"]
