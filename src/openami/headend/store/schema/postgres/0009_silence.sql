-- What a gateway told of its meters' silence is found by meter and time, without reading its other events.

CREATE INDEX event_of_silence ON event (feeder_id, meter_serial, occurred_at)
    WHERE type IN ('comms_lost', 'comms_restored');
