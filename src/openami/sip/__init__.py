"""Signed sessions: who may command what, when. Pure: bytes, values and ``now`` in, decisions out."""
