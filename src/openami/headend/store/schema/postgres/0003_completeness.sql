-- What should have come and has not (decisions 0030, 0031). Times are milliseconds since 1970 in UTC.

-- Which of a gateway's numbers have come, as openami.headend.seq_gaps writes it (JSON).
CREATE TABLE numbering (
    feeder_id  text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    state      bytea NOT NULL,
    PRIMARY KEY (feeder_id, gateway_id)
) WITH (fillfactor = 50);

-- A gap and its life. With epoch 0, first and last are measured times; otherwise numbers.
CREATE TABLE gap (
    feeder_id    text COLLATE "C" NOT NULL,
    gateway_id   text COLLATE "C" NOT NULL,
    epoch        bigint NOT NULL,
    first        bigint NOT NULL,
    last         bigint NOT NULL,
    missing      bigint NOT NULL,
    measured_from bigint,
    measured_to  bigint,
    state        text NOT NULL,
    reason       text NOT NULL,
    noticed_at   bigint NOT NULL,
    changed_at   bigint NOT NULL,
    asks         bigint NOT NULL,
    answers      bigint NOT NULL,
    command_id   text,
    answered_at  bigint,
    ask_at       bigint,
    ended_at     bigint,
    PRIMARY KEY (feeder_id, gateway_id, epoch, first)
);
CREATE INDEX gap_by_end ON gap (ended_at);

-- How often the meters of a feeder report, as the head-end is configured; others are learnt from.
CREATE TABLE expected_interval (
    feeder_id  text COLLATE "C" PRIMARY KEY,
    interval_s integer NOT NULL
);
