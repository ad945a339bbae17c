-- Alarms and traffic (decision 0043). Times are milliseconds since 1970 in UTC.

CREATE TABLE alarm (
    id              text COLLATE "C" PRIMARY KEY,
    feeder_id       text COLLATE "C" NOT NULL,
    gateway_id      text COLLATE "C" NOT NULL,
    meter_serial    text COLLATE "C" NOT NULL,
    kind            text NOT NULL,
    origin          text NOT NULL,
    severity        text NOT NULL,
    detail          text NOT NULL,
    raised_at       bigint NOT NULL,
    last_at         bigint NOT NULL,
    times           bigint NOT NULL,
    cleared_at      bigint,
    acknowledged_at bigint,
    acknowledged_by text,
    note            text
);
CREATE INDEX alarm_active ON alarm (raised_at) WHERE cleared_at IS NULL OR acknowledged_at IS NULL;
CREATE INDEX alarm_past ON alarm (raised_at) WHERE cleared_at IS NOT NULL;

-- One row: the event up to which events have been looked through for alarms.
CREATE TABLE alarm_look (looked_to bigint NOT NULL);
INSERT INTO alarm_look VALUES (0);

-- The events of one meter, the last first.
CREATE INDEX event_by_meter ON event (feeder_id, meter_serial, ts, id);

-- How much each gateway has sent, by UTC day of receipt: topics and payloads of what was accepted.
CREATE TABLE traffic (
    feeder_id  text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    day        text COLLATE "C" NOT NULL,
    messages   bigint NOT NULL,
    bytes      bigint NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id, day)
);
CREATE INDEX traffic_by_day ON traffic (day);
