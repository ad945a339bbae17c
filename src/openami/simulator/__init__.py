"""The village: simulated customers, the feeder between them, and their meters as real Modbus servers."""
