"""A head-end as its operator's machines see it: metrics, readiness and logs of the real program."""

import json
import re
from pathlib import Path

import httpx
import pytest
from tests.conftest import StartMosquitto
from tests.headend.messages import TOPIC, payload
from tests.headend.program import head_end, openami, publish, wait_for
from tests.headend.web.test_operations import samples
from tests.operations.prometheus import promtool
from tests.tools import free_port

PASSWORD = "pimento-sardine-47"
TOKEN = "oami_Zm9yZ2VkLXRva2VuLW9mLW5vYm9keQ_AAAA"
CUSTOMER = "Anitha Balakrishnan"
HOUSES = (
    "feeder,time_zone,pole,pole_order,serial,role,customer,customer_name\n"
    f"feeder-north-paravur-01,Asia/Kolkata,p-1,1,DS1000-88421,,c-1,{CUSTOMER}\n"
)


@pytest.mark.broker
@pytest.mark.slow
def test_what_the_program_tells_and_what_it_keeps_to_itself(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/")
    at, store = f"127.0.0.1:{free_port()}", f"sqlite:///{tmp_path}/headend.db"
    with head_end(
        tmp_path / "log", "--broker", broker.url, "--store", store, "--listen", at
    ) as program:
        program.wait_until_ready()
        wait_for(lambda: "this makes the first" in program.log())
        link = re.search(r"http://\S+/first/(\S+)", program.log())
        assert link is not None
        publish(broker.port, TOPIC, payload())
        with httpx.Client(base_url=f"http://{at}", headers={"origin": f"http://{at}"}) as browser:
            form = {"name": "ada", "password": PASSWORD, "again": PASSWORD}
            assert browser.post(f"/first/{link[1]}", data=form).status_code == 303
            browser.post("/sign-in", data={"name": "ada", "password": f"{PASSWORD}-x"})
            forged = {"Authorization": f"Bearer {TOKEN}"}
            assert browser.get("/api/v1/feeders", headers=forged).status_code == 401

            wait_for(lambda: "messages_total 1.0" in browser.get("/metrics").text)
            exposition = browser.get("/metrics").text
            promtool("check", "metrics", given=exposition)
            told = samples(exposition)
            assert told["openami_headend_sign_in_failures_total",] == 2
            assert told["openami_headend_broker_connected",] == 1
            assert told["openami_headend_readings_total",] == 3
            assert told["openami_headend_store_free_bytes",] > 0
            assert told["process_resident_memory_bytes",] > 0
            assert browser.get("/readyz").json()["status"] in ("ok", "degraded")

            sheet = tmp_path / "houses.csv"
            sheet.write_text(HOUSES)
            openami("feeder", "import", str(sheet), "--store", store)
            browser.get("/meters/DS1000-88421")

            broker.stop()
            wait_for(lambda: "no connection to the broker" in program.log())
            assert samples(browser.get("/metrics").text)["openami_headend_broker_connected",] == 0
        assert program.stop() == 0
    events = [json.loads(line) for line in program.log().splitlines() if line.startswith("{")]
    assert {"connected to the broker", "stopped"} <= {event["event"] for event in events}
    for secret in (PASSWORD, TOKEN, CUSTOMER):
        assert secret not in program.log()
    assert not any(link[1] in json.dumps(event) for event in events)
