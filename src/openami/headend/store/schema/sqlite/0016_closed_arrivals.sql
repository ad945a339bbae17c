-- What completeness asks of a closed file, packed beside it (store/closed_arrivals.py): `sha256` is that of the file it
-- was made of. Files closed before have none until the head-end has made it, and are opened meanwhile.
CREATE TABLE closed_arrivals (
    feeder_id    TEXT NOT NULL,
    meter_serial TEXT NOT NULL,
    first_bucket INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    content      BLOB NOT NULL,
    UNIQUE (feeder_id, meter_serial, first_bucket)
) STRICT;
