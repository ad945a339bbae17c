-- What a gateway's radio contract allows it in a month of UTC, in bytes; one without a row has no such budget.
CREATE TABLE bandwidth_budget (
    feeder_id   TEXT NOT NULL,
    gateway_id  TEXT NOT NULL,
    month_bytes INTEGER NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id)
) STRICT, WITHOUT ROWID;
