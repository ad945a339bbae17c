"""Programs of other people that do a part of a head-end's work, each in a process of its own.

None is ours to ship: `python -m benchmarks.peers.install` puts them into `benchmarks/.peers`, which git ignores.
"""
