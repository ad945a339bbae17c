"""The simulated world: gateways, broker and head-end in one process on virtual time; one seed, one history."""
