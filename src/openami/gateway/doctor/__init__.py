"""The doctor: why a meter is not read, or is read wrongly.

spellings       pure: bytes in every type and order, and which of them is plausible
symptoms        pure: what a line did with a few questions, and what to look at
examining       asks the questions, through a port of the scan's
"""
