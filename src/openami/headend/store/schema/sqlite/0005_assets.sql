-- What stands in the village (decision 0038). Times are milliseconds since 1970 in UTC; 0 is "since ever".

CREATE TABLE asset_feeder (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    time_zone   TEXT NOT NULL,
    billing_day INTEGER NOT NULL,
    tariff_id   TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE asset_pole (
    feeder_id TEXT NOT NULL,
    id        TEXT NOT NULL,
    name      TEXT NOT NULL,
    number    INTEGER NOT NULL,
    parent    TEXT,
    longitude REAL,
    latitude  REAL,
    phases    TEXT NOT NULL,
    PRIMARY KEY (feeder_id, id)
) STRICT, WITHOUT ROWID;

-- A serial at a place, for a time; a swap ends one row and begins another.
CREATE TABLE asset_meter (
    feeder_id   TEXT NOT NULL,
    serial      TEXT NOT NULL,
    role        TEXT NOT NULL,
    pole_id     TEXT,
    phase       TEXT NOT NULL,
    customer_id TEXT,
    protected   INTEGER NOT NULL,
    valid_from  INTEGER NOT NULL,
    valid_to    INTEGER,
    opening_kwh REAL,
    closing_kwh REAL,
    PRIMARY KEY (feeder_id, serial, valid_from)
) STRICT, WITHOUT ROWID;

CREATE TABLE asset_customer (
    feeder_id TEXT NOT NULL,
    id        TEXT NOT NULL,
    name      TEXT NOT NULL,
    PRIMARY KEY (feeder_id, id)
) STRICT, WITHOUT ROWID;

-- The price is text: money is not rounded.
CREATE TABLE asset_tariff (
    id            TEXT NOT NULL,
    price_per_kwh TEXT NOT NULL,
    currency      TEXT NOT NULL,
    valid_from    INTEGER NOT NULL,
    PRIMARY KEY (id, valid_from)
) STRICT, WITHOUT ROWID;
