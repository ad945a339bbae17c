-- Of which boot, and of which second of it, the floor was the time. Without a boot it was known before this one
-- began: a program that starts again in the middle of a boot must not count from the boot's beginning.
ALTER TABLE timekeeping ADD COLUMN boot_id TEXT NOT NULL DEFAULT '';
ALTER TABLE timekeeping ADD COLUMN at_s REAL NOT NULL DEFAULT 0;
