-- Many houses cut off by one decision of two people (decision 0050). Times are milliseconds since 1970 in UTC.
CREATE TABLE bulk (
    id              text COLLATE "C" PRIMARY KEY,
    idempotency_key text UNIQUE,
    feeder_id       text COLLATE "C" NOT NULL,
    reason          text COLLATE "C" NOT NULL,
    state           text COLLATE "C" NOT NULL,
    requested_by    text COLLATE "C" NOT NULL,
    first_person    text NOT NULL,
    requested_at    bigint NOT NULL,
    approved_by     text,
    approved_at     bigint,
    withdrawn_by    text,
    ended_at        bigint
);
CREATE INDEX bulk_open ON bulk (requested_at) WHERE ended_at IS NULL;

-- Its meters in the order they are asked for; each has a command, or why none was taken.
CREATE TABLE bulk_meter (
    bulk_id      text COLLATE "C" NOT NULL,
    position     bigint NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    gateway_id   text COLLATE "C" NOT NULL,
    command_id   text,
    refused_as   text,
    PRIMARY KEY (bulk_id, position)
);
