"""SunSpec meters: they tell themselves which registers they have, so their map is found and not written.

models, models/   the layouts of the common model and of the meters, SunSpec's own JSON read as data
"""
