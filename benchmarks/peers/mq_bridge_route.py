"""mq-bridge as a peer: MQTT at QoS 1 into a table of PostgreSQL, acknowledged after the commit.

Runs under the Python that has mq-bridge, which is not ours (`benchmarks.peers.install`):

    python mq_bridge_route.py PORT FILTER DATABASE_URL (raw|fields) CONCURRENCY

``raw`` stores the envelope as it came, by INSERTs of many rows. ``fields`` stores five members of it by COPY, which
takes members only: less than the envelope, its readings are not among them. ``delayed_ack`` false is mq-bridge's
default and, despite its name, the acknowledgement that waits for the output.
"""

import logging
import sys

from mq_bridge import Route, init_logging

# As many as our head-end takes at once (`openami.headend.uplink`).
BATCH_MESSAGES_MAX = 1000
# As many as there are packet ids. A broker that resumes a session delivers before it answers SUBSCRIBE, and with
# 4,096 mq-bridge 1.2 stopped reading before that answer: after half of the kills it did not come back.
QUEUE_MAX = 65_535
START_MS_MAX = 30_000


def route(port: str, topic: str, url: str, way: str, concurrency: str) -> dict[str, object]:
    """Return the route's configuration."""
    members = {
        "bulk_copy": True,
        "insert_query": "INSERT INTO fields (ts, feeder, gateway, meter, seq) VALUES (${payload:ts}, "
        "${payload:feederId}, ${payload:gatewayId}, ${payload:meterSerial}, ${payload:seq})",
    }
    return {
        "input": {
            "mqtt": {
                "url": f"tcp://127.0.0.1:{port}",
                "topic": topic,
                "client_id": "bench-mq-bridge",
                "qos": 1,
                "protocol": "v3",
                "clean_session": False,
                "delayed_ack": False,
                "max_inflight": 1000,
                "queue_capacity": QUEUE_MAX,
            }
        },
        "output": {"sqlx": {"url": url, "table": way, **(members if way == "fields" else {})}},
        "concurrency": int(concurrency),
        "batch_size": BATCH_MESSAGES_MAX,
        "startup_timeout_ms": START_MS_MAX,
    }


if __name__ == "__main__":
    logging.basicConfig()
    init_logging("warn")
    Route.from_config(route(*sys.argv[1:])).run()
