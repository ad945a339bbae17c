-- Many houses cut off by one decision of two people (decision 0050). Times are milliseconds since 1970 in UTC.
CREATE TABLE bulk (
    id              TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    feeder_id       TEXT NOT NULL,
    reason          TEXT NOT NULL,
    state           TEXT NOT NULL,
    requested_by    TEXT NOT NULL,
    first_person    TEXT NOT NULL,
    requested_at    INTEGER NOT NULL,
    approved_by     TEXT,
    approved_at     INTEGER,
    withdrawn_by    TEXT,
    ended_at        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX bulk_open ON bulk (requested_at) WHERE ended_at IS NULL;

-- Its meters in the order they are asked for; each has a command, or why none was taken.
CREATE TABLE bulk_meter (
    bulk_id      TEXT NOT NULL,
    position     INTEGER NOT NULL,
    meter_serial TEXT NOT NULL,
    gateway_id   TEXT NOT NULL,
    command_id   TEXT,
    refused_as   TEXT,
    PRIMARY KEY (bulk_id, position)
) STRICT, WITHOUT ROWID;
