"""The driver kit: what the author of a register map or a driver needs beside `openami.gateway.driver`.

verdict, map_checks, golden    pure: a value against its range, a map against the register list and its own frames
skeletons                      pure: what a new map and a new driver begin as
probing                        reads a meter once, through its driver
contract_run                   runs the driver contract on a driver's own bench
"""
