"""The rules: what of that which was seen keeps or breaks which requirement.

One module a group of requirements. A group remembers what it needs of the past, within a named bound, and
answers each thing that is seen with occasions; it reads no clock and touches nothing outside.
"""
