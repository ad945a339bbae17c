"""What ``bench_failover`` is made of: servers to kill, a tap that hears what was acknowledged, the verdict."""
