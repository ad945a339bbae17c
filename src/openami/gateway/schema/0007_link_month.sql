-- What the link has carried this month and what the cap makes of it (decision 0076). One row. begin_ms: the month's
-- begin; NULL before the first look at a clock that is trusted. withheld_ms: when telemetry_withheld was raised, if it
-- stands.
CREATE TABLE link_month (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    begin_ms    INTEGER,
    used_bytes  INTEGER NOT NULL DEFAULT 0,
    stage       TEXT NOT NULL DEFAULT 'full',
    withheld_ms INTEGER
);
INSERT INTO link_month (id) VALUES (1);
