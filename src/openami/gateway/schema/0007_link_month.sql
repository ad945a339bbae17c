-- What the link has carried this month and what the cap makes of it (decision 0076). One row. begin_ms: the month's
-- begin; NULL before the first look at a clock that is trusted. waits: whether telemetry_withheld was told and stands.
CREATE TABLE link_month (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    begin_ms   INTEGER,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    stage      TEXT NOT NULL DEFAULT 'full',
    waits      INTEGER NOT NULL DEFAULT 0
);
INSERT INTO link_month (id) VALUES (1);
