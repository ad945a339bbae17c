-- Alarms and traffic (decision 0043). Times are milliseconds since 1970 in UTC.

CREATE TABLE alarm (
    id              TEXT PRIMARY KEY,
    feeder_id       TEXT NOT NULL,
    gateway_id      TEXT NOT NULL,
    meter_serial    TEXT NOT NULL,
    kind            TEXT NOT NULL,
    origin          TEXT NOT NULL,
    severity        TEXT NOT NULL,
    detail          TEXT NOT NULL,
    raised_at       INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    times           INTEGER NOT NULL,
    cleared_at      INTEGER,
    acknowledged_at INTEGER,
    acknowledged_by TEXT,
    note            TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX alarm_active ON alarm (raised_at) WHERE cleared_at IS NULL OR acknowledged_at IS NULL;
CREATE INDEX alarm_past ON alarm (raised_at) WHERE cleared_at IS NOT NULL;

-- One row: the event up to which events have been looked through for alarms.
CREATE TABLE alarm_look (looked_to INTEGER NOT NULL) STRICT;
INSERT INTO alarm_look VALUES (0);

-- The events of one meter, the last first.
CREATE INDEX event_by_meter ON event (feeder_id, meter_serial, ts, id);

-- How much each gateway has sent, by UTC day of receipt: topics and payloads of what was accepted.
CREATE TABLE traffic (
    feeder_id  TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    day        TEXT NOT NULL,
    messages   INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX traffic_by_day ON traffic (day);
