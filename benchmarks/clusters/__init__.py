"""Real brokers of several nodes on loopback, started, killed and brought back by `benchmarks.bench_cluster`."""
