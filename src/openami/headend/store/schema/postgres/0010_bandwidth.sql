-- What a gateway's radio contract allows it in a month of UTC, in bytes; one without a row has no such budget.
CREATE TABLE bandwidth_budget (
    feeder_id   text COLLATE "C" NOT NULL,
    gateway_id  text COLLATE "C" NOT NULL,
    month_bytes bigint NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id)
);
