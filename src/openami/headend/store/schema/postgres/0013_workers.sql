-- Several head-ends sharing one broker's feeders (decision 0073). Times are milliseconds since 1970 in UTC, for
-- people: nothing is judged by them.
CREATE TABLE worker (
    id         text COLLATE "C" PRIMARY KEY,
    name       text NOT NULL,
    beat       bigint NOT NULL,
    started_at bigint NOT NULL,
    beat_at    bigint NOT NULL
);

-- One row for each slice, made once; 0 is the rest. The term grows with every holder.
CREATE TABLE slice (
    number bigint PRIMARY KEY,
    holder text COLLATE "C",
    term   bigint NOT NULL,
    since  bigint NOT NULL
);

-- Since when a slice's session hears a feeder, and since when the rest leaves it to that slice.
CREATE TABLE slice_feeder (
    feeder_id     text COLLATE "C" PRIMARY KEY,
    slice         bigint NOT NULL,
    subscribed_at bigint NOT NULL,
    handed_at     bigint
);
