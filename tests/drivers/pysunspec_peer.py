"""SunSpec as the SunSpec Alliance's own library has it (pysunspec2): a program of its own, run and never imported.

``read PORT``      reads the meter behind a Modbus TCP port: its models and points as JSON, scaled.
``write``          fills meter models with the values on stdin, by model: the words of each whole chain as JSON.
"""
# mypy: ignore-errors

import json
import math
import sys

import sunspec2.device
import sunspec2.mb
import sunspec2.modbus.client

_COMMON = {"Mn": "Peer", "Md": "Wye", "Vr": "2", "SN": "PSS-7", "DA": 1}


def read(port):
    meter = sunspec2.modbus.client.SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=5
    )
    meter.scan()
    told = {"base": meter.base_addr}
    for model in meter.model_list:
        told[model.model_id] = {name: _plain(point.cvalue) for name, point in model.points.items()}
    meter.close()
    return told


def _plain(value):
    return None if isinstance(value, float) and math.isnan(value) else value


def write(model, values):
    """Points are given as they stand in the registers: what is not given is not implemented."""
    image = b"SunS" + _filled(1, _COMMON) + _filled(model, values) + b"\xff\xff\0\0"
    return [int.from_bytes(image[at : at + 2], "big") for at in range(0, len(image), 2)]


def _filled(model_id, values):
    model = sunspec2.device.Model(model_id=model_id)
    for name, point in model.points.items():
        if name not in ("ID", "L", "Pad"):
            point.value = values.get(name)
    return model.get_mb()


if __name__ == "__main__":
    if sys.argv[1] == "read":
        print(json.dumps(read(int(sys.argv[2]))))
    else:
        wanted = json.load(sys.stdin)
        print(json.dumps({model: write(int(model), values) for model, values in wanted.items()}))
