-- What stands in the village (decision 0038). Times are milliseconds since 1970 in UTC; 0 is "since ever".

CREATE TABLE asset_feeder (
    id          text COLLATE "C" PRIMARY KEY,
    name        text NOT NULL,
    time_zone   text NOT NULL,
    billing_day integer NOT NULL,
    tariff_id   text
);

CREATE TABLE asset_pole (
    feeder_id text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    name      text NOT NULL,
    number    integer NOT NULL,
    parent    text,
    longitude double precision,
    latitude  double precision,
    phases    text NOT NULL,
    PRIMARY KEY (feeder_id, id)
);

-- A serial at a place, for a time; a swap ends one row and begins another.
CREATE TABLE asset_meter (
    feeder_id   text COLLATE "C" NOT NULL,
    serial      text COLLATE "C" NOT NULL,
    role        text NOT NULL,
    pole_id     text,
    phase       text NOT NULL,
    customer_id text,
    protected   integer NOT NULL,
    valid_from  bigint NOT NULL,
    valid_to    bigint,
    opening_kwh double precision,
    closing_kwh double precision,
    PRIMARY KEY (feeder_id, serial, valid_from)
);

CREATE TABLE asset_customer (
    feeder_id text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (feeder_id, id)
);

-- The price is text: money is not rounded.
CREATE TABLE asset_tariff (
    id            text COLLATE "C" NOT NULL,
    price_per_kwh text NOT NULL,
    currency      text NOT NULL,
    valid_from    bigint NOT NULL,
    PRIMARY KEY (id, valid_from)
);
