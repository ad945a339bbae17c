-- Old readings may be removed (decision 0074). Times are milliseconds since 1970 in UTC.
-- From when on readings are kept; NULL: all of them are. It only moves on, and nothing measured before it is stored.
ALTER TABLE tally ADD COLUMN kept_since INTEGER;

-- The reading that `latest` speaks of, where it was removed: what a meter that is silent said last.
CREATE TABLE latest_kept (
    series INTEGER PRIMARY KEY,
    bucket INTEGER NOT NULL,
    ms     INTEGER NOT NULL,
    value  ANY NOT NULL,
    flags  INTEGER NOT NULL,
    lag_ms INTEGER NOT NULL
) STRICT;
