"""How far this machine goes: a short measurement with the real parts, and what follows from it (decision 0070).

Measured is what both ends of the village do with a reading: the gateway's outbox, the head-end's judge, its store
and the disk beneath. Everything that is made for it is gone afterwards.
"""
