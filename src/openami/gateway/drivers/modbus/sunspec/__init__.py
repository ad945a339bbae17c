"""SunSpec meters: they tell themselves which registers they have, so their map is found and not written.

models, models/        the layouts of the common model and of the meters: SunSpec's own JSON, read as data
mapping, mapping.toml  which point is which register: ours
chain                  pure: the walk along a meter's models
layout                 pure: a chain and the mapping make a register map, and the driver reads on as with any other

The line drives the walk (decision 0055).
"""
