"""The village's certificates: who may speak to the broker, and as whom. Pure but for the keys it makes."""
