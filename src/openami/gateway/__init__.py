"""The edge: reads any vendor's meters, keeps what it read, publishes it."""
