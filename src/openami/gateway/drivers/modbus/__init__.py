"""The Modbus driver. What it keeps where, as a reader would look for it:

register_map, map_files, maps/   meter types as data
plan, frames, decode, readings   pure: blocks, answers, exact values
doubt                            pure: which answers may be late
sunspec/                         meters that tell themselves which registers they have
options, unit                    the configuration, read strictly; what is known of each meter
wire, line, driver               the shells: pymodbus, turns and faults, the entry point
"""

from openami.gateway.drivers.modbus.driver import ModbusDriver

__all__ = ["ModbusDriver"]
