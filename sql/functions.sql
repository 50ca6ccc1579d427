--
-- Functions and views on a primary: what they return, who may call them.
--
\pset null '(null)'
\set SHOW_CONTEXT never
SELECT current_user AS owner \gset

--
-- What there is
--
SELECT p.oid::regprocedure AS function, p.prokind, p.provolatile, p.proparallel, p.proisstrict
  FROM pg_proc p WHERE p.pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace)
 ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname AS relation, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND c.relkind IN ('v', 'r')
 ORDER BY c.relname COLLATE "C", a.attnum;
SELECT extversion, nspname AS schema, extrelocatable
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'tcs';

-- All that is in the schemas belongs to the extension.
SELECT count(*) AS strays
  FROM (SELECT oid, 'pg_proc'::regclass AS class FROM pg_proc
		 WHERE pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace)
		UNION ALL
		SELECT oid, 'pg_class' FROM pg_class
		 WHERE relnamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND relkind <> 'i') AS o
 WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid
					  AND d.deptype = 'e');

-- What nobody has described: nothing.
SELECT pg_describe_object(o.classid, o.objid, 0) AS not_described
  FROM (SELECT d.classid, d.objid FROM pg_depend d
		 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tcs')
		   AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass,
							 'pg_foreign_data_wrapper'::regclass)
		UNION ALL
		SELECT 'pg_namespace'::regclass, 'tcs'::regnamespace
		UNION ALL
		SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		 WHERE c.relnamespace = 'tcs'::regnamespace AND NOT t.tgisinternal) AS o
 WHERE obj_description(o.objid, o.classid::regclass::name) IS NULL
 ORDER BY 1;

-- Names that have to be quoted: none.
SELECT c.relname || '.' || a.attname AS to_be_quoted
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND a.attname <> quote_ident(a.attname)
 UNION ALL
SELECT p.proname || ' ' || n.name
  FROM pg_proc p, unnest(p.proargnames) AS n (name)
 WHERE p.pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND n.name <> quote_ident(n.name);

-- What PUBLIC may do, and what pg_monitor and the owner of the database may do besides.
SELECT 'EXECUTE' AS privilege, p.oid::regprocedure::text COLLATE "C" AS object
  FROM pg_proc p, LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE p.pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND a.grantee = 0
 UNION ALL
SELECT a.privilege_type, c.oid::regclass::text
  FROM pg_class c, LATERAL aclexplode(c.relacl) AS a
 WHERE c.relnamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND a.grantee = 0
 UNION ALL
SELECT a.privilege_type, n.nspname
  FROM pg_namespace n, LATERAL aclexplode(n.nspacl) AS a
 WHERE n.nspname IN ('tcs', 'tcs_internal') AND a.grantee = 0
 ORDER BY 1, 2;
SELECT a.grantee::regrole, a.privilege_type AS privilege, c.oid::regclass::text COLLATE "C" AS object
  FROM pg_class c, LATERAL aclexplode(c.relacl) AS a
 WHERE c.relnamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND a.grantee NOT IN (0, c.relowner)
 ORDER BY 1, 2, 3;

--
-- A primary
--
SELECT role, split_part(library_version, ' ', 1) AS library_version, system_identifier = (SELECT system_identifier FROM pg_control_system()) AS ours,
	   timeline_id, replay_lsn, replay_state, replay_detail, primary_lsn, last_answer_age, staleness,
	   lag_bytes, bound_state, link_state, link_detail, worker_pid, worker_state
  FROM tcs.status;
SELECT level, tcs.can_serve(level), tcs.can_serve(upper(level), '0')
  FROM unnest(ARRAY['eventual', 'consistent_prefix', 'bounded', 'read_your_writes',
					'monotonic_reads', 'session', 'sequential', 'causal', 'strong']) AS level;
SELECT tcs.can_serve(NULL), tcs.can_serve('bounded', NULL);
SELECT tcs.can_serve('snapshot');
SELECT tcs.can_serve('linearizable');
SELECT tcs.can_serve('fresh');
SELECT tcs.can_serve('bounded', '-1 s');
SELECT count(*) FROM tcs.standbys;

CREATE TABLE t (v int);
INSERT INTO t VALUES (2);

--
-- tcs.wait_for()
--
SELECT tcs.session_token() AS token \gset
CALL tcs.wait_for(:'token');
CALL tcs.wait_for(:'token', '0');
CALL tcs.wait_for(:'token', max_wait => '1 min');
CALL tcs.wait_for(:'token', '-1 ms');
CALL tcs.wait_for('');
CALL tcs.wait_for(NULL, NULL);
BEGIN;
CALL tcs.wait_for(:'token');
COMMIT;
CREATE PROCEDURE waits(token text) LANGUAGE plpgsql AS $$
BEGIN
	CALL tcs.wait_for(token);
	PERFORM v FROM t;
	COMMIT;
	CALL tcs.wait_for(token);
	UPDATE t SET v = v + 1;
END $$;
CALL waits(:'token');
SELECT v FROM t;
BEGIN;
CALL waits(:'token');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL tcs.wait_for(:'token');
ROLLBACK;
SELECT tcs.wait_for('');

--
-- tcs.last_read
--
\c - :owner
\pset null '(null)'
SELECT * FROM tcs.last_read;
SELECT v FROM t;
SELECT level, level_source, needed_lsn, wait_time, outcome, served_level, reason FROM tcs.last_read;
-- It is not a read itself, nor is what reads no table.
SELECT 1 AS one;
SELECT outcome FROM tcs.last_read;
SET tcs.read_level = strong;
SELECT v FROM t;
SELECT level, level_source, wait_time, outcome, reason FROM tcs.last_read;
BEGIN;
SET LOCAL tcs.read_level = bounded;
SELECT v FROM t;
COMMIT;
SELECT level, level_source FROM tcs.last_read;
DO $$ BEGIN PERFORM v FROM t; END $$;
SELECT level, level_source FROM tcs.last_read;
SET tcs.session_token = :'token';
SET tcs.read_level = causal;
SELECT v FROM t;
SELECT level, outcome FROM tcs.last_read;
-- start-up options
\set conninfo 'dbname=' :DBNAME ' options='
\set with_level :conninfo '-c\\ tcs.read_level=sequential'
\c :with_level
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read;
RESET tcs.read_level;
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read;
\set without :conninfo ''''''

--
-- The read index, as a standby asks for it
--
\set asks :conninfo '-c\\ tcs.asker=test'
\c :asks
CREATE FUNCTION read_index() RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/0'::pg_lsn
	+ ('x' || lpad(split_part(current_setting('tcs.read_index'), ' ', 4), 16, '0'))::bit(64)::bigint::numeric $$;
SELECT read_index() > '0/0' AS told, read_index() <= pg_current_wal_flush_lsn() AS flushed;
-- A commit that was acknowledged is covered, an asynchronous one as well.
SET synchronous_commit = off;
UPDATE t SET v = v;
SELECT read_index() >= i.written_lsn AS covered
  FROM tcs.token_info(current_setting('tcs.session_token')) i;
RESET synchronous_commit;
\c :without

--
-- Sources of the level
--
CREATE ROLE regress_tcs_plain LOGIN;
GRANT SELECT ON t TO regress_tcs_plain;
ALTER DATABASE :"DBNAME" SET tcs.read_level = 'eventual';
\c - -
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read;
ALTER ROLE regress_tcs_plain SET tcs.read_level = 'bounded';
\c - regress_tcs_plain
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read;
\c - :owner
ALTER ROLE regress_tcs_plain IN DATABASE :"DBNAME" SET tcs.read_level = 'strong';
\c - regress_tcs_plain
SELECT v FROM t;
SELECT level, level_source FROM tcs.last_read;
\c - :owner
ALTER ROLE regress_tcs_plain IN DATABASE :"DBNAME" RESET tcs.read_level;
ALTER ROLE regress_tcs_plain RESET tcs.read_level;
ALTER DATABASE :"DBNAME" RESET tcs.read_level;

--
-- A role with nothing but what PUBLIC has
--
\c - regress_tcs_plain
SELECT tcs.session_token() AS token \gset
SELECT on_this_history FROM tcs.token_info(:'token');
SELECT tcs.merge_tokens(:'token', :'token') = :'token' AS merged;
SELECT tcs.merge_tokens(t) = :'token' AS merged FROM unnest(ARRAY[:'token', :'token']) AS t;
CALL tcs.wait_for(:'token', '1 s');
SELECT role FROM tcs.status;
SELECT tcs.can_serve('strong');
SELECT v FROM t;
SELECT outcome FROM tcs.last_read;
SELECT count(*) FROM tcs.quorum;
SELECT level, reads FROM tcs.relaxed;
SELECT count(*) FROM tcs.stat_reads;
SELECT count(*) FROM tcs.standbys;
SELECT count(*) FROM tcs.rules;
SELECT tcs.stat_reads_reset();
-- To look at it is no question.
SELECT current_setting('tcs.read_index') = '' AS not_asked;
\set asks 'user=regress_tcs_plain ' :conninfo '-c\\ tcs.asker=test'
\c :asks
SHOW tcs.read_index;
\c - :owner
GRANT EXECUTE ON FUNCTION tcs.stat_reads_reset() TO regress_tcs_plain;
ALTER ROLE regress_tcs_plain REPLICATION;
\c :asks
SELECT tcs.stat_reads_reset();
SELECT read_index() > '0/0' AS told;
\c - :owner
REVOKE EXECUTE ON FUNCTION tcs.stat_reads_reset() FROM regress_tcs_plain;
-- Who watches the server sees how it goes, and may not touch anything.
GRANT pg_monitor TO regress_tcs_plain;
\c - regress_tcs_plain
SELECT count(*) > 0 AS seen FROM tcs.stat_reads;
SELECT count(*) FROM tcs.stat_downgrades;
SELECT count(*) > 0 AS seen FROM tcs.stat_writes;
SELECT connections FROM tcs.stat_redirects;
SELECT count(*) FROM tcs.standbys;
SELECT count(*) FROM tcs.rules;
SELECT count(*) FROM tcs.groups;
SELECT tcs.stat_reads_reset();
SELECT tcs.relax('eventual', '1 s', 'why not');
\c - :owner
REVOKE SELECT ON t FROM regress_tcs_plain;
DROP ROLE regress_tcs_plain;

DROP PROCEDURE waits(text);
DROP FUNCTION read_index();
DROP TABLE t;
