"""Boxes that count a meter's pulses, for the OpenAMI gateway."""
