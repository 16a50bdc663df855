-- What is big is stored apart, in a table that is cleaned up by its own settings: that too by count, about every 32 MB.
ALTER TABLE outbox SET (
    autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 16000
);
