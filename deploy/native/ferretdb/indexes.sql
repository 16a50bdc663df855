-- FerretDB asks for {field: value} by `_jsonb->'field' @> 'value'`, which the B-tree indexes that it makes cannot answer: every
-- find and every update would read its whole table. So each B-tree index gets a GIN index beside it, on its first field.
CREATE OR REPLACE FUNCTION public.index_containment() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
  made record;
  field text;
BEGIN
  FOR made IN
    SELECT i.indexrelid, i.indrelid::regclass AS collection, c.relname
    FROM pg_event_trigger_ddl_commands() d
    JOIN pg_index i ON i.indexrelid = d.objid
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = 'btree' AND i.indexprs IS NOT NULL
  LOOP
    field := pg_get_indexdef(made.indexrelid, 1, true);
    -- What is inserted is looked for at once: a list of pending entries would be read through each time.
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s USING gin ((%s) jsonb_path_ops) WITH (fastupdate = off)',
      'gin_' || md5(made.relname || field), made.collection, field);
  END LOOP;
END
$$;
DROP EVENT TRIGGER IF EXISTS index_containment;
CREATE EVENT TRIGGER index_containment ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.index_containment();
