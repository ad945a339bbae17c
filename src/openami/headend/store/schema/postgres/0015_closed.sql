-- Months of meters that are closed (decision 0075): their readings as Parquet, and no longer in `reading`.
-- Buckets are those of `reading`. The files of a meter never overlap.
CREATE TABLE closed (
    feeder_id    text NOT NULL,
    meter_serial text NOT NULL,
    first_bucket integer NOT NULL,
    last_bucket  integer NOT NULL,
    readings     integer NOT NULL,
    closed_at    bigint NOT NULL,
    sha256       text NOT NULL,
    content      bytea NOT NULL,
    UNIQUE (feeder_id, meter_serial, first_bucket)
);

-- What has to be closed: of a meter everything from a bucket to the end of its month.
CREATE TABLE closing_due (
    bucket       integer NOT NULL,
    feeder_id    text NOT NULL,
    meter_serial text NOT NULL,
    PRIMARY KEY (bucket, feeder_id, meter_serial)
);

-- One row: up to which bucket months are closed or about to be. What comes of an earlier one is late.
CREATE TABLE closing (
    through integer
);
-- Parquet is compressed already: nothing is gained by trying again.
ALTER TABLE closed ALTER COLUMN content SET STORAGE EXTERNAL;
INSERT INTO closing DEFAULT VALUES;
