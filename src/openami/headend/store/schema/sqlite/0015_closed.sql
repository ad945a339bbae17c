-- Months of meters that are closed (decision 0075): their readings as Parquet, and no longer in `reading`.
-- Buckets are those of `reading`. The files of a meter never overlap.
CREATE TABLE closed (
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    first_bucket INTEGER NOT NULL,
    last_bucket  INTEGER NOT NULL,
    readings     INTEGER NOT NULL,
    closed_at    INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    content      BLOB NOT NULL,
    UNIQUE (feeder_id, meter_serial, first_bucket)
) STRICT;

-- What has to be closed: of a meter everything from a bucket to the end of its month.
CREATE TABLE closing_due (
    bucket       INTEGER NOT NULL,
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    PRIMARY KEY (bucket, feeder_id, meter_serial)
) STRICT, WITHOUT ROWID;

-- One row: up to which bucket months are closed or about to be. What comes of an earlier one is late.
CREATE TABLE closing (
    through INTEGER
) STRICT;
INSERT INTO closing DEFAULT VALUES;
