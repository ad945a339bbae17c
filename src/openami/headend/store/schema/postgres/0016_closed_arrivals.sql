-- What completeness asks of a closed file, packed beside it (store/closed_arrivals.py): `sha256` is that of the file it
-- was made of. Files closed before have none until the head-end has made it, and are opened meanwhile.
CREATE TABLE closed_arrivals (
    feeder_id    text COLLATE "C" NOT NULL,
    meter_serial text COLLATE "C" NOT NULL,
    first_bucket integer NOT NULL,
    sha256       text NOT NULL,
    content      bytea NOT NULL,
    UNIQUE (feeder_id, meter_serial, first_bucket)
);
-- Named as everywhere else: of two collations no index can serve a join, and the order is that of SQLite.
ALTER TABLE closed ALTER COLUMN feeder_id TYPE text COLLATE "C", ALTER COLUMN meter_serial TYPE text COLLATE "C";
ALTER TABLE closing_due ALTER COLUMN feeder_id TYPE text COLLATE "C", ALTER COLUMN meter_serial TYPE text COLLATE "C";
ALTER TABLE closed_arrivals ALTER COLUMN content SET STORAGE EXTERNAL;
