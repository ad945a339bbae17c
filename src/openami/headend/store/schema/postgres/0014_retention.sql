-- Old readings may be removed, a month in one piece (decision 0074). Times are milliseconds since 1970 in UTC.
-- From when on readings are kept; NULL: all of them are. It only moves on, and nothing measured before it is stored.
ALTER TABLE tally ADD COLUMN kept_since bigint;

-- The reading that `latest` speaks of, where it was removed: what a meter that is silent said last.
CREATE TABLE latest_kept (
    series integer PRIMARY KEY,
    number double precision,
    lag_ms bigint NOT NULL,
    bucket integer NOT NULL,
    ms     integer NOT NULL,
    flags  integer NOT NULL,
    text   text,
    CHECK (num_nonnulls(number, text) = 1)
);

-- `reading` by month. The months themselves are made by the program (store/partitions.py), for only it knows which.
-- There is no default partition: making a month would have to read all that is in it.
ALTER TABLE reading RENAME TO reading_before;
ALTER INDEX reading_pkey RENAME TO reading_before_pkey;
CREATE TABLE reading (
    number double precision,
    lag_ms bigint NOT NULL,
    bucket integer NOT NULL,
    series integer NOT NULL,
    ms     integer NOT NULL,
    flags  integer NOT NULL,
    text   text,
    PRIMARY KEY (bucket, series, ms),
    CONSTRAINT reading_check CHECK (num_nonnulls(number, text) = 1)
) PARTITION BY RANGE (bucket);

-- Replaced and not dropped: what other people have built upon it stays.
CREATE OR REPLACE VIEW readings AS
SELECT s.feeder_id,
       s.meter_serial,
       s.obis,
       to_timestamp((r.bucket * 14400000::bigint + r.ms) / 1000.0) AS ts,
       r.number,
       r.text,
       u.text AS unit,
       CASE r.flags & 3 WHEN 0 THEN 'good' WHEN 1 THEN 'suspect' ELSE 'comms_lost' END AS quality,
       to_timestamp((r.bucket * 14400000::bigint + r.ms + r.lag_ms) / 1000.0) AS received_at
FROM reading r
JOIN series s ON s.id = r.series
JOIN unit u ON u.id = coalesce(nullif(r.flags >> 4, 0), s.unit);

-- What is there already stays where it lies, as one partition up to the end of its last month. It is read once, to
-- see that nothing in it lies beyond; its index is taken as it is.
DO $$
DECLARE
    last_day integer := (SELECT floor(max(bucket) / 6.0) FROM reading_before);
    next_month date := date_trunc('month', (date '1970-01-01' + last_day)::timestamp) + interval '1 month';
BEGIN
    IF last_day IS NULL THEN
        DROP TABLE reading_before;
    ELSE
        EXECUTE format(
            'ALTER TABLE reading ATTACH PARTITION reading_before FOR VALUES FROM (MINVALUE) TO (%s)',
            6 * (next_month - date '1970-01-01')
        );
    END IF;
END $$;
