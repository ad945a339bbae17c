"""The bridge: what the reference firmware publishes, as a gateway would have published it.

It listens to the firmware's broker, turns its messages into the profile's envelopes and publishes those
north. What can be undone exactly is undone, what cannot be believed is said or left out, and nothing is
ever sent to the firmware: it takes commands from anybody, so it gets none from here (docs/bridge.md).
"""
