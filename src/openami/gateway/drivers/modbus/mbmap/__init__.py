"""Register maps of others, in the mbmap-2 format, made into ours (decision 0056). All pure.

source               the mbmap file, read strictly
overlay              what it cannot say: which register is which OBIS code, how often, with how many decimals
head, registers      the tables of a register map out of both, or why not
importing, map_text  all of it together, as TOML
"""

from openami.gateway.drivers.modbus.mbmap.importing import CannotImport, Imported, import_map

__all__ = ["CannotImport", "Imported", "import_map"]
