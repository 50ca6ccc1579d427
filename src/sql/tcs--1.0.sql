/* src/sql/tcs--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tcs" to load this file. \quit

-- see src/rules/install.c; both are dropped at the end
CREATE FUNCTION secure_schema() RETURNS void
AS 'MODULE_PATHNAME', 'tcs_secure_schema' LANGUAGE C;

CREATE FUNCTION secure_members() RETURNS void
AS 'MODULE_PATHNAME', 'tcs_secure_members' LANGUAGE C;

SELECT tcs.secure_schema();

GRANT USAGE ON SCHEMA tcs TO PUBLIC;

COMMENT ON SCHEMA tcs IS 'extension tcs: reads on standbys as fresh as they asked to be';

-- What views, triggers and standbys call.  Users have no need to.
CREATE SCHEMA tcs_internal;

COMMENT ON SCHEMA tcs_internal IS 'extension tcs: what its views, triggers and standbys call';

/* ---- what a standby calls for a redirect ---- */

-- The four are called by name, as the user whose read it is: PUBLIC needs them.
CREATE FUNCTION tcs_internal.redirect_begin(
	system_identifier bigint,
	database oid,
	session_user_id oid,
	settings bytea)
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_redirect_begin'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION tcs_internal.redirect_begin(bigint, oid, oid, bytea) IS
'called by a standby before a redirected statement: checks and settings';

CREATE FUNCTION tcs_internal.redirect_settings(settings bytea)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_redirect_settings'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION tcs_internal.redirect_settings(bytea) IS
'called by a standby when settings have changed within a redirected transaction';

CREATE FUNCTION tcs_internal.redirect_check(may_hold_locks boolean, may_leave_cursors boolean)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_redirect_check'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION tcs_internal.redirect_check(boolean, boolean) IS
'called by a standby after a redirected statement: does it leave anything behind?';

CREATE FUNCTION tcs_internal.redirect_text(value record)
RETURNS text
AS 'MODULE_PATHNAME', 'tcs_redirect_text'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION tcs_internal.redirect_text(record) IS
'called by a redirected statement: the text of the one column of a row, as no setting changes it';

-- A redirected transaction locks this view.  It needs the four functions, so neither
-- the extension nor one of them is dropped while the lock is held.  As the first
-- relation here it is the first that DROP EXTENSION locks: nobody else is kept
-- waiting while that waits.
CREATE VIEW tcs_internal.redirect_lock AS
SELECT true AS locked
 WHERE false
   AND tcs_internal.redirect_begin(NULL, NULL, NULL, NULL) IS NULL
   AND tcs_internal.redirect_settings(NULL) IS NULL
   AND tcs_internal.redirect_check(NULL, NULL) IS NULL
   AND tcs_internal.redirect_text(NULL) IS NULL;

COMMENT ON VIEW tcs_internal.redirect_lock IS
'locked by redirected transactions, so that the extension is not dropped while they run';

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
	OUT timeline_id int,
	OUT timeline_begin_lsn pg_lsn,
	OUT written_lsn pg_lsn,
	OUT durable boolean,
	OUT seen_on_primary_lsn pg_lsn,
	OUT seen_on_standby_lsn pg_lsn,
	OUT on_this_history boolean,
	OUT history_detail text,
	OUT reached_here boolean)
AS 'MODULE_PATHNAME', 'tcs_token_info'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION token_info(text) IS
'what a session token says, and how it relates to this node; on_this_history is null while that is not known, and reached_here if it never will be reached';

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

COMMENT ON AGGREGATE merge_tokens(text) IS
'token that asks for everything any of the tokens asks for';

CREATE PROCEDURE wait_for(token text, max_wait interval DEFAULT NULL)
AS 'MODULE_PATHNAME', 'tcs_wait_for'
LANGUAGE C;

COMMENT ON PROCEDURE wait_for(text, interval) IS
'wait until this node has everything a token names';

/* ---- freshness ---- */

CREATE FUNCTION tcs_internal.status(
	OUT role text,
	OUT library_version text,
	OUT system_identifier bigint,
	OUT timeline_id int,
	OUT replay_lsn pg_lsn,
	OUT replay_state text,
	OUT replay_detail text,
	OUT primary_lsn pg_lsn,
	OUT last_answer_age interval,
	OUT staleness interval,
	OUT lag_bytes bigint,
	OUT bound_state text,
	OUT link_state text,
	OUT link_detail text,
	OUT worker_pid int,
	OUT worker_state text,
	OUT waiting_sessions int,
	OUT late_token_reports bigint)
AS 'MODULE_PATHNAME', 'tcs_status'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.status() IS 'data of the view tcs.status';

CREATE VIEW status AS
SELECT role, library_version, system_identifier, timeline_id,
	   replay_lsn, replay_state, replay_detail,
	   primary_lsn, last_answer_age, staleness, lag_bytes, bound_state,
	   link_state, link_detail, worker_pid, worker_state,
	   waiting_sessions, late_token_reports
  FROM tcs_internal.status();

COMMENT ON VIEW status IS
'one row about this node: role, position, staleness and the link to the primary';
COMMENT ON COLUMN status.role IS 'primary or standby';
COMMENT ON COLUMN status.library_version IS 'version of the library, and of the sources that it was built from';
COMMENT ON COLUMN status.replay_state IS
'replaying, paused_at_target, paused, blocked_by_session, delayed, receiver_not_streaming, archive_only, no_wal_source or not_advancing; null on a primary';
COMMENT ON COLUMN status.replay_detail IS 'why replay does not advance, for people';
COMMENT ON COLUMN status.primary_lsn IS 'newest read index that the primary has told';
COMMENT ON COLUMN status.last_answer_age IS 'time since the primary was asked for that';
COMMENT ON COLUMN status.staleness IS 'what the primary acknowledged longer ago than this is visible here; null: not known';
COMMENT ON COLUMN status.lag_bytes IS 'WAL between replay_lsn and primary_lsn';
COMMENT ON COLUMN status.bound_state IS 'where the staleness stands to tcs.max_staleness: ok, near, over or unknown';
COMMENT ON COLUMN status.link_state IS 'none, connecting, up, stalled, down or refused; null on a primary';
COMMENT ON COLUMN status.link_detail IS 'why the link is not up, for people';
COMMENT ON COLUMN status.worker_state IS
'running; not_running: it starts again within a second, unless max_worker_processes is too low; not_needed on a primary';

CREATE FUNCTION can_serve(level text, max_staleness interval DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tcs_can_serve'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION can_serve(text, interval) IS
'whether a read at this level would be served here now, without a wait for replay';

CREATE FUNCTION tcs_internal.last_read(
	OUT level text,
	OUT level_source text,
	OUT rule_id int,
	OUT needed_lsn pg_lsn,
	OUT reached_lsn pg_lsn,
	OUT timeline_id int,
	OUT staleness interval,
	OUT wait_time double precision,
	OUT outcome text,
	OUT served_level text,
	OUT reason text,
	OUT redirect_detail text,
	OUT wait_detail text,
	OUT by_lease boolean)
AS 'MODULE_PATHNAME', 'tcs_last_read'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.last_read() IS 'data of the view tcs.last_read';

CREATE VIEW last_read AS
SELECT level, level_source, rule_id, needed_lsn, reached_lsn, timeline_id,
	   staleness, wait_time, outcome, served_level, reason, redirect_detail, wait_detail, by_lease
  FROM tcs_internal.last_read();

COMMENT ON VIEW last_read IS
'proof of the last gated statement of this session';
COMMENT ON COLUMN last_read.level_source IS
'what has chosen the level: default, configuration, all_roles, database, role, role_in_database, connection, session, hint, rule, floor, group, relaxed or exempt';
COMMENT ON COLUMN last_read.rule_id IS 'the rule, where level_source is rule or floor';
COMMENT ON COLUMN last_read.wait_time IS 'time that it has waited, in ms';
COMMENT ON COLUMN last_read.outcome IS 'served, waited, redirected, downgraded or refused';
COMMENT ON COLUMN last_read.served_level IS 'level that it was served at; null if it was refused';
COMMENT ON COLUMN last_read.reason IS
'why it was not served at once: behind, foreign_cluster, lost_in_failover, freshness_unknown, old_snapshot, blocks_replay, no_quorum, not_confirmed, relaxed or no_token';
COMMENT ON COLUMN last_read.redirect_detail IS 'why the primary did not serve it, for people';
COMMENT ON COLUMN last_read.wait_detail IS 'why it was not waited for, for people';
COMMENT ON COLUMN last_read.by_lease IS 'whether a read lease has proved it fresh, so that nobody was asked';

/* ---- statistics ---- */

CREATE FUNCTION tcs_internal.stat_reads(
	OUT level text,
	OUT reads bigint,
	OUT reads_without_token bigint,
	OUT served_at_once bigint,
	OUT waited bigint,
	OUT wait_histogram bigint[],
	OUT timed_out bigint,
	OUT downgraded bigint,
	OUT refused bigint,
	OUT redirected bigint,
	OUT redirects_failed bigint,
	OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_reads'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.stat_reads() IS 'data of the view tcs.stat_reads';

CREATE VIEW stat_reads AS
SELECT level, reads, reads_without_token, served_at_once, waited, wait_histogram,
	   timed_out, downgraded, refused, redirected, redirects_failed, stats_reset
  FROM tcs_internal.stat_reads();

COMMENT ON VIEW stat_reads IS 'reads per level and what became of them';
COMMENT ON COLUMN stat_reads.wait_histogram IS
'waits of up to 1, 5, 10, 50, 100, 500, 1000 and 5000 ms, and longer ones';

CREATE FUNCTION tcs_internal.stat_downgrades(
	OUT level text,
	OUT served_level text,
	OUT reason text,
	OUT reads bigint,
	OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_downgrades'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.stat_downgrades() IS 'data of the view tcs.stat_downgrades';

CREATE VIEW stat_downgrades AS
SELECT level, served_level, reason, reads, stats_reset
  FROM tcs_internal.stat_downgrades();

COMMENT ON VIEW stat_downgrades IS
'reads that were served at another level than they asked for; reasons as in tcs.last_read';

CREATE FUNCTION stat_reads_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_stat_reads_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION stat_reads_reset() IS
'set the counters of tcs.stat_reads and tcs.stat_downgrades to zero';

/* ---- the primary's view of its standbys ---- */

CREATE FUNCTION tcs_internal.askers(
	OUT pid int,
	OUT application_name text,
	OUT client_addr inet,
	OUT library_version text,
	OUT token_version int,
	OUT last_asked_time timestamptz,
	OUT last_answer_lsn pg_lsn,
	OUT questions bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_askers'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.askers() IS
'connections by which standbys ask this primary for its read index';

CREATE FUNCTION tcs_internal.asker_staleness(pid int, replay_lsn pg_lsn)
RETURNS interval
AS 'MODULE_PATHNAME', 'tcs_asker_staleness'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.asker_staleness(int, pg_lsn) IS
'staleness of a standby that has replayed as far as this, by the answers that it was given';

CREATE VIEW standbys AS
WITH asker AS (
	SELECT * FROM tcs_internal.askers()
), streaming AS (
	SELECT r.*
	  FROM pg_catalog.pg_stat_replication r
	 WHERE r.state OPERATOR(pg_catalog.<>) 'startup'
)
SELECT a.application_name, a.client_addr, true AS asks,
	   a.library_version, a.token_version, a.last_asked_time, a.questions,
	   s.state, s.replay_lsn,
	   tcs_internal.asker_staleness(a.pid, s.replay_lsn) AS staleness,
	   CASE WHEN a.last_answer_lsn IS NOT NULL AND s.replay_lsn IS NOT NULL -- greatest() passes over NULL
			THEN greatest(pg_catalog.pg_wal_lsn_diff(a.last_answer_lsn, s.replay_lsn)::bigint, 0) END AS lag_bytes
  FROM asker a
  LEFT JOIN streaming s
	ON s.application_name OPERATOR(pg_catalog.=) a.application_name
   AND coalesce(pg_catalog.host(s.client_addr), '') OPERATOR(pg_catalog.=) coalesce(pg_catalog.host(a.client_addr), '')
 UNION ALL
SELECT s.application_name, s.client_addr, false,
	   NULL, NULL, NULL, NULL,
	   s.state, s.replay_lsn, NULL, NULL
  FROM streaming s
 WHERE NOT EXISTS (SELECT FROM asker a
					WHERE a.application_name OPERATOR(pg_catalog.=) s.application_name
					  AND coalesce(pg_catalog.host(a.client_addr), '') OPERATOR(pg_catalog.=) coalesce(pg_catalog.host(s.client_addr), ''));

COMMENT ON VIEW standbys IS
'standbys that ask this primary for its read index, and streaming standbys that never did';
COMMENT ON COLUMN standbys.client_addr IS 'address of the standby; null: by a Unix-domain socket';
COMMENT ON COLUMN standbys.asks IS 'whether it asks for the read index: the library is loaded there';
COMMENT ON COLUMN standbys.state IS 'as in pg_stat_replication; null: no WAL is streamed to it from here';

/* ---- read leases ---- */

CREATE FUNCTION tcs_internal.leases(
	OUT pid int,
	OUT application_name text,
	OUT state text,
	OUT granted_time timestamptz,
	OUT remaining interval,
	OUT told_lsn pg_lsn,
	OUT reached_lsn pg_lsn,
	OUT grants bigint,
	OUT renewals bigint,
	OUT given_back bigint,
	OUT commits_waited bigint,
	OUT longest_wait double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_leases'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.leases() IS 'data of the view tcs.leases';

CREATE VIEW leases AS
SELECT pid, application_name, state, granted_time, remaining, told_lsn, reached_lsn,
	   grants, renewals, given_back, commits_waited, longest_wait
  FROM tcs_internal.leases();

COMMENT ON VIEW leases IS
'read leases: on a primary those it has granted, on a standby its own';
COMMENT ON COLUMN leases.pid IS 'on a primary, the process that the holder is connected to, null if it is gone; on a standby, the lease worker';
COMMENT ON COLUMN leases.state IS
'granted on a primary; on a standby: holds, lagging, not_granted, connecting or off';
COMMENT ON COLUMN leases.told_lsn IS 'position that the holder was told last';
COMMENT ON COLUMN leases.reached_lsn IS 'position that the holder has said it has replayed';
COMMENT ON COLUMN leases.given_back IS 'how often this standby gave its lease back, as replay was late';
COMMENT ON COLUMN leases.commits_waited IS 'commits that waited for this holder';
COMMENT ON COLUMN leases.longest_wait IS 'the longest of these waits, in ms';

/* ---- writes ---- */

CREATE FUNCTION tcs_internal.quorum(
	OUT write_level text,
	OUT synchronous_commit text,
	OUT available boolean,
	OUT available_detail text,
	OUT servers int,
	OUT servers_durable int,
	OUT servers_visible int,
	OUT servers_to_read int,
	OUT survives text,
	OUT survives_detail text,
	OUT read_detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_quorum_fn'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.quorum() IS 'data of the view tcs.quorum';

CREATE VIEW quorum AS
SELECT write_level, synchronous_commit, available, available_detail,
	   servers, servers_durable, servers_visible, servers_to_read,
	   survives, survives_detail, read_detail
  FROM tcs_internal.quorum();

COMMENT ON VIEW quorum IS
'what each write level gives by this server''s configuration';
COMMENT ON COLUMN quorum.available IS 'whether a commit of this level would return now';
COMMENT ON COLUMN quorum.available_detail IS 'why it would not, for people';
COMMENT ON COLUMN quorum.servers IS 'this primary and the standbys of synchronous_standby_names; null: not known, or none';
COMMENT ON COLUMN quorum.servers_durable IS 'how many of them have a commit on disk when it returns';
COMMENT ON COLUMN quorum.servers_visible IS 'how many of them show it then';
COMMENT ON COLUMN quorum.servers_to_read IS 'a read on so many of them cannot miss it';
COMMENT ON COLUMN quorum.survives IS
'the worst that a commit survives: nothing, server_crash, system_crash or primary_loss; null: not known';
COMMENT ON COLUMN quorum.survives_detail IS 'the same for people';
COMMENT ON COLUMN quorum.read_detail IS 'where it can be read, for people';

CREATE FUNCTION tcs_internal.stat_writes(
	OUT write_level text,
	OUT commits bigint,
	OUT waited bigint,
	OUT cancelled_waits bigint,
	OUT refused bigint,
	OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tcs_stat_writes'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.stat_writes() IS 'data of the view tcs.stat_writes';

CREATE VIEW stat_writes AS
SELECT write_level, commits, waited, cancelled_waits, refused, stats_reset
  FROM tcs_internal.stat_writes();

COMMENT ON VIEW stat_writes IS 'commits per write level';
COMMENT ON COLUMN stat_writes.cancelled_waits IS
'done here, and not confirmed by the standbys that were waited for';

CREATE FUNCTION stat_writes_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_stat_writes_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION stat_writes_reset() IS 'set the counters of tcs.stat_writes to zero';

/* ---- redirect ---- */

CREATE FUNCTION tcs_internal.fdw_validator(options text[], catalog oid)
RETURNS void
AS 'MODULE_PATHNAME', 'tcs_fdw_validator'
LANGUAGE C STRICT PARALLEL SAFE;

COMMENT ON FUNCTION tcs_internal.fdw_validator(text[], oid) IS
'checks the options of servers and user mappings of tcs_fdw';

CREATE FOREIGN DATA WRAPPER tcs_fdw VALIDATOR tcs_internal.fdw_validator;

COMMENT ON FOREIGN DATA WRAPPER tcs_fdw IS
'servers that a standby redirects reads to';

CREATE FUNCTION tcs_internal.stat_redirects(
	OUT server_name text,
	OUT connections int,
	OUT idle_connections int,
	OUT max_connections int,
	OUT connected bigint,
	OUT failed bigint,
	OUT over_budget bigint)
AS 'MODULE_PATHNAME', 'tcs_redirects'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.stat_redirects() IS 'data of the view tcs.stat_redirects';

CREATE VIEW stat_redirects AS
SELECT server_name, connections, idle_connections, max_connections, connected, failed, over_budget
  FROM tcs_internal.stat_redirects();

COMMENT ON VIEW stat_redirects IS
'one row about the connections of this node to its redirect server';
COMMENT ON COLUMN stat_redirects.server_name IS 'tcs.redirect_server; null: there is no such server in this database';
COMMENT ON COLUMN stat_redirects.connected IS 'connections made since this node was started';
COMMENT ON COLUMN stat_redirects.failed IS 'connections that could not be made since then';
COMMENT ON COLUMN stat_redirects.over_budget IS 'redirects that max_connections did not allow since then';

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
	held boolean,				-- it was none when it was dumped, and stays so until asked for
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
'rules as they are stored, with times in ms; made by tcs.set_rule(), shown by the view tcs.rules';

COMMENT ON SEQUENCE rule_id_seq IS 'numbers of rules';

-- the criteria by which rules are told apart
CREATE UNIQUE INDEX rule_criteria ON rule
	(relation, function, schema, role, application_name, operation, unresolved) NULLS NOT DISTINCT;

CREATE TABLE rule_group (
	relation regclass UNIQUE,
	name text NOT NULL,
	missing text,				-- as in the table of rules
	held boolean				-- likewise
);

-- there is no primary key, and it can be published
ALTER TABLE rule_group REPLICA IDENTITY FULL;

COMMENT ON TABLE rule_group IS
'members of groups as they are stored; made by tcs.set_group(), shown by the view tcs.groups';

CREATE FUNCTION tcs_internal.rule_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_rule_check' LANGUAGE C;

CREATE FUNCTION tcs_internal.group_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_group_check' LANGUAGE C;

CREATE FUNCTION tcs_internal.rules_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'tcs_rules_changed' LANGUAGE C;

COMMENT ON FUNCTION tcs_internal.rule_check() IS 'trigger: checks a row of tcs.rule';
COMMENT ON FUNCTION tcs_internal.group_check() IS 'trigger: checks a row of tcs.rule_group';
COMMENT ON FUNCTION tcs_internal.rules_changed() IS 'trigger: tells the sessions of this database that rules have changed';

REVOKE ALL ON FUNCTION tcs_internal.rule_check(), tcs_internal.group_check(),
	tcs_internal.rules_changed() FROM PUBLIC;

CREATE TRIGGER rule_check BEFORE INSERT OR UPDATE OR DELETE ON rule
FOR EACH ROW EXECUTE FUNCTION tcs_internal.rule_check();

CREATE TRIGGER group_check BEFORE INSERT OR UPDATE OR DELETE ON rule_group
FOR EACH ROW EXECUTE FUNCTION tcs_internal.group_check();

-- for each row, so that a DROP of something without rules changes nothing
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON rule
FOR EACH ROW EXECUTE FUNCTION tcs_internal.rules_changed();

CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON rule_group
FOR EACH ROW EXECUTE FUNCTION tcs_internal.rules_changed();

CREATE TRIGGER rules_truncated AFTER TRUNCATE ON rule
FOR EACH STATEMENT EXECUTE FUNCTION tcs_internal.rules_changed();

CREATE TRIGGER rules_truncated AFTER TRUNCATE ON rule_group
FOR EACH STATEMENT EXECUTE FUNCTION tcs_internal.rules_changed();

-- also where session_replication_role is "replica", as in workers of subscriptions
ALTER TABLE rule ENABLE ALWAYS TRIGGER rule_check;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER group_check;
ALTER TABLE rule ENABLE ALWAYS TRIGGER rules_changed;
ALTER TABLE rule ENABLE ALWAYS TRIGGER rules_truncated;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER rules_changed;
ALTER TABLE rule_group ENABLE ALWAYS TRIGGER rules_truncated;

COMMENT ON TRIGGER rule_check ON rule IS 'checks the row';
COMMENT ON TRIGGER group_check ON rule_group IS 'checks the row';
COMMENT ON TRIGGER rules_changed ON rule IS 'tells the sessions of this database';
COMMENT ON TRIGGER rules_changed ON rule_group IS 'tells the sessions of this database';
COMMENT ON TRIGGER rules_truncated ON rule IS 'tells the sessions of this database';
COMMENT ON TRIGGER rules_truncated ON rule_group IS 'tells the sessions of this database';

-- What pg_dump appends to the table in the FROM clause of its query.  The columns of
-- objects get other names there, and come out as null.  The names of the objects, as
-- they are now, come out as missing; the trigger looks them up where they are
-- restored.  What is gone is left out.  What is not in force now is held there, and
-- comes after what is, so it takes the place of none.
SELECT pg_catalog.pg_extension_config_dump('rule', $$
AS r (id, relation_here, function_here, schema_here, role_here, missing_relation_here,
	missing_function_here, missing_schema_here, missing_role_here, unresolved_here, held_here)
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
		   id AS unresolved,
		   CASE WHEN pg_catalog.num_nonnulls(missing_relation_here, missing_function_here,
			   missing_schema_here, missing_role_here, unresolved_here) OPERATOR(pg_catalog.>) 0
		   THEN true END AS held) AS dumped
WHERE (relation_here IS NULL OR missing_relation IS NOT NULL)
  AND (role_here IS NULL OR missing_role IS NOT NULL)
ORDER BY held NULLS FIRST, id$$);
SELECT pg_catalog.pg_extension_config_dump('rule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('rule_group', $$
AS g (relation_here, name, missing_here, held_here)
CROSS JOIN LATERAL (
	SELECT NULL::pg_catalog.regclass AS relation,
		   CASE WHEN relation_here IS NULL THEN missing_here
		   ELSE (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
				   FROM pg_catalog.pg_class c
				   JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
				  WHERE c.oid OPERATOR(pg_catalog.=) relation_here::pg_catalog.oid) END AS missing,
		   CASE WHEN missing_here IS NOT NULL THEN true END AS held) AS dumped
WHERE missing IS NOT NULL
ORDER BY held NULLS FIRST$$);

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
	   r.fallback, r.floor, r.hard, r.reason, g.name AS group_name, r.set_by, r.set_at,
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
'rules: which level what is read and written gets';
COMMENT ON COLUMN rules.operation IS 'read or write';
COMMENT ON COLUMN rules.hard IS 'whether tcs.relax() keeps its floor';
COMMENT ON COLUMN rules.reason IS 'why the rule was made, for people';
COMMENT ON COLUMN rules.group_name IS 'group that the relation is in';
COMMENT ON COLUMN rules.unresolved IS 'objects that were missing when the rule was restored; not null: it is not in force';

CREATE VIEW groups AS
SELECT g.name,
	   pg_catalog.array_agg(g.relation ORDER BY g.relation::text) FILTER (WHERE g.missing IS NULL) AS relations,
	   pg_catalog.array_agg(g.missing ORDER BY g.missing) FILTER (WHERE g.missing IS NOT NULL) AS unresolved
  FROM tcs.rule_group g
 GROUP BY g.name;

COMMENT ON VIEW groups IS
'groups of relations that pull each other up';
COMMENT ON COLUMN groups.unresolved IS 'members that were missing when the group was restored';

CREATE FUNCTION explain_level(
	statement text,
	OUT level text,
	OUT level_source text,
	OUT rule_id int,
	OUT level_detail text,
	OUT floor text,
	OUT max_staleness interval,
	OUT max_wait interval,
	OUT fallback text,
	OUT write_level text,
	OUT write_rule_id int)
AS 'MODULE_PATHNAME', 'tcs_explain_level'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION explain_level(text) IS
'the level that a statement would get in this session, and why, without running it; level_source as in tcs.last_read; max_wait is null if it would wait for ever';

/* ---- emergency valve ---- */

CREATE FUNCTION relax(level text, duration interval, reason text)
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

CREATE FUNCTION tcs_internal.relaxed(
	OUT level text,
	OUT since timestamptz,
	OUT until timestamptz,
	OUT reason text,
	OUT role text,
	OUT reads bigint)
AS 'MODULE_PATHNAME', 'tcs_relaxed'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION tcs_internal.relaxed() IS 'data of the view tcs.relaxed';

CREATE VIEW relaxed AS
SELECT level, since, until, reason, role, reads
  FROM tcs_internal.relaxed();

COMMENT ON VIEW relaxed IS
'what relax() has put in force on this node';
COMMENT ON COLUMN relaxed.level IS 'null: nothing is in force';
COMMENT ON COLUMN relaxed.reason IS 'reason that was given; shown to members of pg_read_all_stats';
COMMENT ON COLUMN relaxed.role IS 'who called relax(); shown to members of pg_read_all_stats';
COMMENT ON COLUMN relaxed.reads IS 'reads served at less since relax() was last called';

/* ---- privileges ---- */

-- nobody has more than what is granted here, whatever default privileges say
SELECT tcs.secure_members();
DROP FUNCTION secure_schema();
DROP FUNCTION secure_members();

GRANT USAGE ON SCHEMA tcs_internal TO PUBLIC;

-- ACCESS SHARE needs no more, and SELECT allows no other lock
GRANT SELECT ON tcs_internal.redirect_lock TO PUBLIC;

-- A view calls its functions as who reads it: views and functions go together.
REVOKE ALL ON FUNCTION stat_reads_reset(), stat_writes_reset(), relax(text, interval, text), relax_end(),
	tcs_internal.stat_reads(), tcs_internal.stat_downgrades(), tcs_internal.stat_writes(),
	tcs_internal.stat_redirects(), tcs_internal.askers(), tcs_internal.asker_staleness(int, pg_lsn),
	tcs_internal.leases(), tcs_internal.fdw_validator(text[], oid)
FROM PUBLIC;

-- what a session may know of itself and of its node
GRANT SELECT ON status, last_read, quorum, relaxed TO PUBLIC;

GRANT EXECUTE ON FUNCTION tcs_internal.stat_reads(), tcs_internal.stat_downgrades(), tcs_internal.stat_writes(),
	tcs_internal.stat_redirects(), tcs_internal.askers(), tcs_internal.asker_staleness(int, pg_lsn),
	tcs_internal.leases()
TO pg_monitor;
GRANT SELECT ON stat_reads, stat_downgrades, stat_writes, stat_redirects, standbys, leases, rules, groups TO pg_monitor;

-- for who dumps the database; pg_read_all_data may as well
GRANT SELECT ON rule, rule_group, rule_id_seq, rules, groups TO pg_database_owner;
