"""Node-RED as a peer: MQTT at QoS 1 into PostgreSQL, one INSERT a message, as such a flow is usually drawn.

Its MQTT node acknowledges on receipt, before the flow has seen the message; there is no setting for it.
"""

import json
from pathlib import Path

_STORE = """\
global.get('pool').query({name: 'store', text: 'INSERT INTO raw (payload) VALUES ($1)', values: [msg.payload]})
    .then(() => node.done(), error => node.error(error, msg));
"""
# As many connections as its client for PostgreSQL opens by itself.
_SETTINGS = """\
const {{ Pool }} = require({pg});
module.exports = {{
    uiHost: '127.0.0.1', uiPort: {ui}, httpAdminRoot: false, httpNodeRoot: false, disableEditor: true,
    telemetry: {{ enabled: false, updateNotification: false }},
    logging: {{ console: {{ level: 'warn' }} }},
    functionGlobalContext: {{ pool: new Pool({{ connectionString: {url} }}) }},
}};
"""


def write(folder: Path, modules: Path, *, port: int, ui: int, topic: str, url: str) -> list[str]:
    """Write flow and settings into a folder; return Node-RED's arguments."""
    flow: list[dict[str, object]] = [
        {"id": "tab", "type": "tab", "label": "store"},
        {
            "id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(port),
            "clientid": "bench-node-red", "autoConnect": True, "protocolVersion": "4",
            "keepalive": "60", "cleansession": False,
        },
        {
            "id": "in", "type": "mqtt in", "z": "tab", "topic": topic, "qos": "1",
            "datatype": "buffer", "broker": "broker", "wires": [["store"]],
        },
        {"id": "store", "type": "function", "z": "tab", "func": _STORE, "outputs": 0, "wires": []},
    ]  # fmt: skip
    (folder / "flow.json").write_text(json.dumps(flow))
    settings = _SETTINGS.format(pg=json.dumps(str(modules / "pg")), ui=ui, url=json.dumps(url))
    (folder / "settings.js").write_text(settings)
    return ["-s", str(folder / "settings.js"), "-u", str(folder), str(folder / "flow.json")]
