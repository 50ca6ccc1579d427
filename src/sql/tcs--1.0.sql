/* src/sql/tcs--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tcs" to load this file. \quit

-- see tcs_install.c; both are dropped at the end
CREATE FUNCTION secure_schema() RETURNS void
AS 'MODULE_PATHNAME', 'tcs_secure_schema' LANGUAGE C;

CREATE FUNCTION secure_members() RETURNS void
AS 'MODULE_PATHNAME', 'tcs_secure_members' LANGUAGE C;

SELECT tcs.secure_schema();

GRANT USAGE ON SCHEMA tcs TO PUBLIC;

/* ---- tokens ---- */

CREATE FUNCTION session_token()
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_session_token_fn'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION session_token() IS
'token of everything this session has written and may have read so far';

CREATE FUNCTION token_info(
	token text,
	OUT version int,
	OUT system_identifier bigint,
	OUT timeline int,
	OUT timeline_begin pg_lsn,
	OUT written pg_lsn,
	OUT durable boolean,
	OUT seen_on_primary pg_lsn,
	OUT seen_on_standby pg_lsn,
	OUT on_this_history text,
	OUT reached_here boolean)
AS 'MODULE_PATHNAME', 'tcs_token_info'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION token_info(text) IS
'what a session token says, and how it relates to this node';

CREATE FUNCTION merge_tokens(a text, b text)
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_merge_tokens'
LANGUAGE C STABLE PARALLEL RESTRICTED;

COMMENT ON FUNCTION merge_tokens(text, text) IS
'token that asks for everything either token asks for';

CREATE AGGREGATE merge_tokens(text) (
	SFUNC = merge_tokens,
	STYPE = text,
	PARALLEL = RESTRICTED
);

CREATE PROCEDURE wait_for(token text, max_wait interval DEFAULT NULL)
AS 'MODULE_PATHNAME', 'tcs_wait_for'
LANGUAGE C;

COMMENT ON PROCEDURE wait_for(text, interval) IS
'wait until this node has everything a token names';

/* ---- freshness ---- */

CREATE FUNCTION read_index(
	OUT lsn pg_lsn,
	OUT timeline int,
	OUT system_identifier bigint,
	OUT answer text)
AS 'MODULE_PATHNAME', 'tcs_read_index'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION read_index() IS
'flushed WAL position that covers every commit acknowledged so far; primary only, roles that may replicate';

CREATE FUNCTION quorum_index(
	start_round boolean,
	OUT lsn pg_lsn,
	OUT confirmed_lsn pg_lsn,
	OUT round_lsn pg_lsn,
	OUT problem text,
	OUT answer text)
AS 'MODULE_PATHNAME', 'tcs_quorum_index'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION quorum_index(boolean) IS
'read index, and WAL position that a quorum of synchronous standbys has flushed; primary only, roles that may replicate';

CREATE FUNCTION status(
	OUT role text,
	OUT library_version text,
	OUT system_identifier bigint,
	OUT timeline int,
	OUT replay_lsn pg_lsn,
	OUT replay_state text,
	OUT primary_lsn pg_lsn,
	OUT last_answer_age_ms double precision,
	OUT staleness_ms double precision,
	OUT staleness_bytes bigint,
	OUT bound_state text,
	OUT link_state text,
	OUT link_reason text,
	OUT worker_pid int,
	OUT worker_state text,
	OUT waiting_sessions int,
	OUT late_token_reports bigint)
AS 'MODULE_PATHNAME', 'tcs_status'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION status() IS
'one row about this node: role, position, staleness and the link to the primary';

CREATE FUNCTION version()
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_version'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION version() IS
'version of the library on this node, and of the sources that it was built from';

CREATE FUNCTION can_serve(level text, max_staleness interval DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tcs_can_serve'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION can_serve(text, interval) IS
'whether a read at this level would be served here now, without a wait for replay';

CREATE FUNCTION last_read(
	OUT level text,
	OUT level_source text,
	OUT needed_lsn pg_lsn,
	OUT reached_lsn pg_lsn,
	OUT timeline int,
	OUT staleness_ms double precision,
	OUT waited_ms double precision,
	OUT outcome text,
	OUT reason text,
	OUT not_waited_because text)
AS 'MODULE_PATHNAME', 'tcs_last_read'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION last_read() IS
'proof of the last gated statement of this session';

/* ---- statistics ---- */

CREATE FUNCTION stat_reads_data(
	OUT level text,
	OUT reads bigint,
	OUT served_at_once bigint,
	OUT waited bigint,
	OUT wait_histogram bigint[],
	OUT timed_out bigint,
	OUT downgraded bigint,
	OUT errors bigint,
	OUT redirected bigint,
	OUT stats_reset timestamptz,
	OUT reads_without_token bigint,
	OUT redirects_failed bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_reads'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

CREATE FUNCTION stat_downgrades_data(
	OUT level text,
	OUT served_at text,
	OUT reason text,
	OUT reads bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_downgrades'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

CREATE VIEW stat_reads AS
SELECT s.level, s.reads, s.reads_without_token, s.served_at_once, s.waited, s.wait_histogram,
	   s.timed_out, s.downgraded,
	   (SELECT coalesce(pg_catalog.jsonb_object_agg(d.served_at OPERATOR(pg_catalog.||) ': '::text OPERATOR(pg_catalog.||) d.reason, d.reads), '{}')
		  FROM tcs.stat_downgrades_data() d
		 WHERE d.level OPERATOR(pg_catalog.=) s.level) AS downgrades,
	   s.errors, s.redirected, s.redirects_failed, s.stats_reset
  FROM tcs.stat_reads_data() s;

COMMENT ON VIEW stat_reads IS
'reads per level and what became of them; wait_histogram counts waits up to 1, 5, 10, 50, 100, 500, 1000, 5000 ms and longer';

CREATE FUNCTION stat_reads_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_stat_reads_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

REVOKE ALL ON FUNCTION stat_reads_reset() FROM PUBLIC;

/* ---- the primary's view of its standbys ---- */

CREATE FUNCTION askers(
	OUT pid int,
	OUT application_name text,
	OUT client_addr text,
	OUT library_version text,
	OUT token_version int,
	OUT last_asked timestamptz,
	OUT last_answer pg_lsn,
	OUT questions bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_askers'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

CREATE FUNCTION asker_staleness(pid int, replayed pg_lsn)
RETURNS double precision
AS 'MODULE_PATHNAME', 'tcs_asker_staleness'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW standbys AS
WITH asker AS (
	SELECT * FROM tcs.askers()
), streaming AS (
	SELECT r.*, coalesce(pg_catalog.host(r.client_addr), 'local') AS address
	  FROM pg_catalog.pg_stat_replication r
	 WHERE r.state OPERATOR(pg_catalog.<>) 'startup'
)
SELECT a.application_name, a.client_addr, true AS asks,
	   a.library_version, a.token_version, a.last_asked, a.questions,
	   s.state, s.replay_lsn,
	   tcs.asker_staleness(a.pid, s.replay_lsn) AS staleness_ms,
	   CASE WHEN a.last_answer IS NOT NULL AND s.replay_lsn IS NOT NULL -- greatest() passes over NULL
			THEN greatest(pg_catalog.pg_wal_lsn_diff(a.last_answer, s.replay_lsn)::bigint, 0) END AS staleness_bytes
  FROM asker a
  LEFT JOIN streaming s
	ON s.application_name OPERATOR(pg_catalog.=) a.application_name
   AND s.address OPERATOR(pg_catalog.=) a.client_addr
 UNION ALL
SELECT s.application_name, s.address, false,
	   NULL, NULL, NULL, NULL,
	   s.state, s.replay_lsn, NULL, NULL
  FROM streaming s
 WHERE NOT EXISTS (SELECT FROM asker a
					WHERE a.application_name OPERATOR(pg_catalog.=) s.application_name
					  AND a.client_addr OPERATOR(pg_catalog.=) s.address);

COMMENT ON VIEW standbys IS
'standbys that ask this primary for its read index, and streaming standbys that never did';

/* ---- writes ---- */

CREATE FUNCTION quorum(
	OUT write_level text,
	OUT synchronous_commit text,
	OUT w int,
	OUT n int,
	OUT survives text,
	OUT available boolean,
	OUT problem text,
	OUT visible_on int,
	OUT r int,
	OUT reads text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_quorum_fn'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION quorum() IS
'what each write level gives by this server''s configuration: w of n servers have a commit on disk when it returns, visible_on of them show it, and a read on r of them cannot miss it';

CREATE FUNCTION stat_writes_data(
	OUT write_level text,
	OUT commits bigint,
	OUT waited bigint,
	OUT cancelled_waits bigint,
	OUT refused bigint,
	OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_writes'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

CREATE VIEW stat_writes AS
SELECT write_level, commits, waited, cancelled_waits, refused, stats_reset
  FROM tcs.stat_writes_data();

COMMENT ON VIEW stat_writes IS
'commits per write level; cancelled_waits: done here, and not confirmed by the standbys that were waited for';

CREATE FUNCTION stat_writes_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_stat_writes_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

REVOKE ALL ON FUNCTION stat_writes_reset() FROM PUBLIC;

/* ---- redirect ---- */

CREATE FUNCTION fdw_validator(options text[], catalog oid)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_fdw_validator'
LANGUAGE C STRICT PARALLEL SAFE;

COMMENT ON FUNCTION fdw_validator(text[], oid) IS
'checks the options of servers and user mappings of tcs_fdw';

CREATE FOREIGN DATA WRAPPER tcs_fdw VALIDATOR fdw_validator;

COMMENT ON FOREIGN DATA WRAPPER tcs_fdw IS
'servers that a standby redirects reads to';

CREATE FUNCTION redirect_begin(
	system_identifier bigint,
	database oid,
	session_user_id oid,
	settings bytea)
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_redirect_begin'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION redirect_begin(bigint, oid, oid, bytea) IS
'called by a standby before a redirected statement: checks and settings';

CREATE FUNCTION redirect_settings(settings bytea)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_redirect_settings'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION redirect_settings(bytea) IS
'called by a standby when settings have changed within a redirected transaction';

CREATE FUNCTION redirect_check(may_hold_locks boolean, may_leave_cursors boolean)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_redirect_check'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION redirect_check(boolean, boolean) IS
'called by a standby after a redirected statement: does it leave anything behind?';

CREATE FUNCTION redirect_text(value record)
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_redirect_text'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION redirect_text(record) IS
'called by a redirected statement: the text of the one column of a row, as no setting changes it';

CREATE FUNCTION redirects(
	OUT server text,
	OUT connections int,
	OUT idle_connections int,
	OUT max_connections int,
	OUT connected bigint,
	OUT failed bigint,
	OUT over_budget bigint)
AS 'MODULE_PATHNAME', 'tcs_redirects'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION redirects() IS
'one row about the connections of this node to its redirect server';

/* ---- rules by data ---- */

CREATE TABLE rule (
	id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	relation regclass,
	function text,
	schema name,
	role regrole,
	-- names, with schema, of objects that are not there: from a dump
	missing_relation text,
	missing_function text,
	missing_schema name,
	missing_role name,
	unresolved int,				-- its id while it is no rule for that reason
	application_name text,
	operation text NOT NULL DEFAULT 'read',
	level text,
	max_staleness int,
	max_wait int,
	fallback text,
	floor text,
	hard boolean NOT NULL DEFAULT false,
	reason text,
	schema_oid oid,
	function_oid oid,
	oids_of text,
	set_by name NOT NULL DEFAULT session_user,
	set_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

COMMENT ON TABLE rule IS
'which level what is read and written gets; see tcs.set_rule() and the view tcs.rules; times in ms';

-- the criteria by which rules are told apart
CREATE UNIQUE INDEX rule_criteria ON rule
	(relation, function, schema, role, application_name, operation, unresolved) NULLS NOT DISTINCT;

CREATE TABLE rule_group (
	relation regclass UNIQUE,
	name text NOT NULL,
	missing text				-- as in the table of rules
);

-- there is no primary key, and it can be published
ALTER TABLE rule_group REPLICA IDENTITY FULL;

COMMENT ON TABLE rule_group IS
'relations that pull each other up; see tcs.set_group()';

CREATE FUNCTION rule_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_rule_check' LANGUAGE C;

CREATE FUNCTION group_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_group_check' LANGUAGE C;

CREATE FUNCTION rules_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_rules_changed' LANGUAGE C;

REVOKE ALL ON FUNCTION rule_check(), group_check(), rules_changed() FROM PUBLIC;

CREATE TRIGGER rule_check BEFORE INSERT OR UPDATE OR DELETE ON rule
FOR EACH ROW EXECUTE FUNCTION rule_check();

CREATE TRIGGER group_check BEFORE INSERT OR UPDATE OR DELETE ON rule_group
FOR EACH ROW EXECUTE FUNCTION group_check();

-- for each row, so that a DROP of something without rules changes nothing
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON rule
FOR EACH ROW EXECUTE FUNCTION rules_changed();

CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON rule_group
FOR EACH ROW EXECUTE FUNCTION rules_changed();

CREATE TRIGGER rules_truncated AFTER TRUNCATE ON rule
FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();

CREATE TRIGGER rules_truncated AFTER TRUNCATE ON rule_group
FOR EACH STATEMENT EXECUTE FUNCTION rules_changed();

-- also where session_replication_role is "replica", as in workers of subscriptions
ALTER TABLE rule ENABLE ALWAYS TRIGGER rule_check;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER group_check;
ALTER TABLE rule ENABLE ALWAYS TRIGGER rules_changed;
ALTER TABLE rule ENABLE ALWAYS TRIGGER rules_truncated;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER rules_changed;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER rules_truncated;

-- What pg_dump appends to the table in the FROM clause of its query.  The columns of
-- objects get other names there, and come out as null.  The names of the objects, as
-- they are now, come out as missing; the trigger looks them up where they are
-- restored.  What is gone is left out.
SELECT pg_catalog.pg_extension_config_dump('rule', $$
AS r (id, relation_here, function_here, schema_here, role_here, missing_relation_here,
	missing_function_here, missing_schema_here, missing_role_here, unresolved_here)
CROSS JOIN LATERAL (
	SELECT NULL::pg_catalog.regclass AS relation, NULL::pg_catalog.text AS function,
		   NULL::pg_catalog.name AS schema, NULL::pg_catalog.regrole AS role,
		   CASE WHEN relation_here IS NULL THEN missing_relation_here
		   ELSE (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
				   FROM pg_catalog.pg_class c
				   JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
				  WHERE c.oid OPERATOR(pg_catalog.=) relation_here::pg_catalog.oid) END AS missing_relation,
		   coalesce(function_here, missing_function_here) AS missing_function,
		   coalesce(schema_here, missing_schema_here) AS missing_schema,
		   CASE WHEN role_here IS NULL THEN missing_role_here
		   ELSE (SELECT a.rolname FROM pg_catalog.pg_roles a
				  WHERE a.oid OPERATOR(pg_catalog.=) role_here::pg_catalog.oid) END AS missing_role,
		   id AS unresolved) AS dumped
WHERE (relation_here IS NULL OR missing_relation IS NOT NULL)
  AND (role_here IS NULL OR missing_role IS NOT NULL)$$);
SELECT pg_catalog.pg_extension_config_dump('rule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('rule_group', $$
AS g (relation_here, name, missing_here)
CROSS JOIN LATERAL (
	SELECT NULL::pg_catalog.regclass AS relation,
		   CASE WHEN relation_here IS NULL THEN missing_here
		   ELSE (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
				   FROM pg_catalog.pg_class c
				   JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
				  WHERE c.oid OPERATOR(pg_catalog.=) relation_here::pg_catalog.oid) END AS missing) AS dumped
WHERE missing IS NOT NULL$$);

CREATE FUNCTION set_rule(
	relation regclass DEFAULT NULL,
	level text DEFAULT NULL,
	max_staleness interval DEFAULT NULL,
	max_wait interval DEFAULT NULL,
	fallback text DEFAULT NULL,
	floor text DEFAULT NULL,
	hard boolean DEFAULT false,
	schema name DEFAULT NULL,
	function regprocedure DEFAULT NULL,
	role regrole DEFAULT NULL,
	database name DEFAULT NULL,
	application_name text DEFAULT NULL,
	operation text DEFAULT 'read',
	reason text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'tcs_set_rule'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION set_rule(regclass, text, interval, interval, text, text, boolean, name, regprocedure, regrole, name, text, text, text) IS
'make or replace the rule for a relation, function or schema, a role and an application; returns its id';

CREATE FUNCTION drop_rule(
	relation regclass DEFAULT NULL,
	schema name DEFAULT NULL,
	function regprocedure DEFAULT NULL,
	role regrole DEFAULT NULL,
	application_name text DEFAULT NULL,
	operation text DEFAULT 'read',
	id int DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'tcs_drop_rule'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION drop_rule(regclass, name, regprocedure, regrole, text, text, int) IS
'drop the rule with exactly these criteria, or that of an id; returns its id';

CREATE FUNCTION set_group(name text, VARIADIC relations regclass[])
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_set_group'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION set_group(text, regclass[]) IS
'make or replace a group of relations, each of which is read at the strongest level of all; a relation is in one group at most';

CREATE FUNCTION drop_group(name text)
RETURNS int
AS 'MODULE_PATHNAME', 'tcs_drop_group'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION drop_group(text) IS
'drop a group of relations; returns how many it had';

CREATE FUNCTION resolve_rules()
RETURNS int
AS 'MODULE_PATHNAME', 'tcs_resolve_rules'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION resolve_rules() IS
'put restored rules and members of groups in force whose objects were missing then and are there now; returns how many';

CREATE VIEW rules AS
SELECT r.id, r.relation, r.function, r.schema, r.role, r.application_name,
	   r.operation, r.level,
	   pg_catalog.make_interval(secs => r.max_staleness OPERATOR(pg_catalog./) 1000.0::float8) AS max_staleness,
	   CASE WHEN r.max_wait OPERATOR(pg_catalog.<) 0 THEN NULL
	   ELSE pg_catalog.make_interval(secs => r.max_wait OPERATOR(pg_catalog./) 1000.0::float8) END AS max_wait,
	   r.fallback, r.floor, r.hard, r.reason, g.name AS "group", r.set_by, r.set_at,
	   CASE WHEN coalesce(r.missing_relation, r.missing_function, r.missing_schema::text, r.missing_role::text) IS NOT NULL
	   THEN pg_catalog.concat_ws(', ', 'relation '::text OPERATOR(pg_catalog.||) r.missing_relation,
								 'function '::text OPERATOR(pg_catalog.||) r.missing_function,
								 'schema '::text OPERATOR(pg_catalog.||) r.missing_schema::text,
								 'role '::text OPERATOR(pg_catalog.||) r.missing_role::text) END AS unresolved
  FROM tcs.rule r
  LEFT JOIN tcs.rule_group g
	ON g.relation::oid OPERATOR(pg_catalog.=) r.relation::oid
 WHERE r.role IS NULL
	OR EXISTS (SELECT FROM pg_catalog.pg_roles a WHERE a.oid OPERATOR(pg_catalog.=) r.role::oid);

COMMENT ON VIEW rules IS
'rules: which level what is read and written gets; one with something in "unresolved" is not in force';

CREATE VIEW groups AS
SELECT g.name,
	   pg_catalog.array_agg(g.relation ORDER BY g.relation::text) FILTER (WHERE g.missing IS NULL) AS relations,
	   pg_catalog.array_agg(g.missing ORDER BY g.missing) FILTER (WHERE g.missing IS NOT NULL) AS unresolved
  FROM tcs.rule_group g
 GROUP BY g.name;

COMMENT ON VIEW groups IS
'groups of relations that pull each other up';

CREATE FUNCTION explain_level(
	statement text,
	OUT level text,
	OUT source text,
	OUT rule int,
	OUT reason text,
	OUT floor text,
	OUT max_staleness_ms int,
	OUT max_wait_ms int,
	OUT fallback text,
	OUT write_level text,
	OUT write_rule int)
AS 'MODULE_PATHNAME', 'tcs_explain_level'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION explain_level(text) IS
'the level that a statement would get in this session, and why, without running it';

/* ---- emergency valve ---- */

CREATE FUNCTION relax(level text, "for" interval, reason text)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_relax'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION relax(text, interval, text) IS
'for a time, this node serves reads that ask for more than a level, and would have to wait, at that level; floors of hard rules are kept';

CREATE FUNCTION relax_end()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tcs_relax_end'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION relax_end() IS
'end what relax() began; returns whether it was in force';

REVOKE ALL ON FUNCTION relax(text, interval, text), relax_end() FROM PUBLIC;

CREATE FUNCTION relaxed(
	OUT level text,
	OUT since timestamptz,
	OUT until timestamptz,
	OUT reason text,
	OUT role text,
	OUT reads bigint)
AS 'MODULE_PATHNAME', 'tcs_relaxed'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION relaxed() IS
'what relax() has put in force on this node, and how many reads were served at less since it was last called';

/* ---- privileges ---- */

-- nobody has more than what is granted here, whatever default privileges say
SELECT tcs.secure_members();
DROP FUNCTION secure_schema();
DROP FUNCTION secure_members();

GRANT SELECT ON stat_reads, standbys, stat_writes, rules, groups TO PUBLIC;

-- for whoever dumps the database
GRANT SELECT ON rule, rule_group, rule_id_seq TO PUBLIC;
