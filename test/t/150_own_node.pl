# test/t/150_own_node.pl
#
# A node can always answer questions about itself.  What asks for nothing but this
# session or node passes at every level.  What reads nothing but system catalogs
# is bound by what the client asks for in its session, never by a standing
# default.  What reads data, or of which that is not known, is bound by both.
#
# What the built-in functions read is one list, and every function that SQL can
# call is in it: a new major version's functions have to be put on one side or
# the other.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsTest;
use TcsWire;

# A standby whose link to the primary is cut, so that nothing is known of its
# freshness.  Replay goes on.
my ($primary, $standby) = new_pair(
	standby_conf => "tcs.primary_conninfo = 'host=/nowhere'\ntcs.max_wait = 0");


##
## The list
##

my %class_of;
my $source = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../src/statement/builtin_list.h");

while ($source =~ /(\w+)_functions\[\] = \{(.*?)\};/gs)
{
	my ($class, @names) = ($1, $2 =~ /"(\w+)"/g);

	is_deeply([ sort @names ], \@names, "list $class: in order");
	push @{ $class_of{$_} }, $class foreach @names;
}
is(join(', ', grep { @{ $class_of{$_} } > 1 } sort keys %class_of), '', 'each name is in one list');

# What takes or returns a type that no SQL has a value of cannot be called.
my @callable = split /\n/, read_at($primary, q{
	SELECT DISTINCT p.proname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.oid < 16384 AND p.pronamespace = 'pg_catalog'::regnamespace
	AND NOT (p.provolatile = 'i' AND l.lanname IN ('internal', 'sql'))
	AND NOT EXISTS (SELECT FROM unnest(p.proargtypes || p.prorettype) a JOIN pg_type t ON t.oid = a
		WHERE t.typname IN ('internal', 'trigger', 'event_trigger') OR t.typname LIKE '%\_handler')});

cmp_ok(scalar(@callable), '>', 500, 'the functions of this major version');
is(join(', ', grep { !$class_of{$_} } sort @callable),
	'', 'all of them are in src/statement/builtin_list.h: what does each one read, and can it run elsewhere?');


##
## Statements
##

$primary->safe_psql('postgres', q{
CREATE TABLE t (a int, v int);
INSERT INTO t VALUES (1, 1);
CREATE VIEW t_view AS SELECT v FROM t;
CREATE VIEW monitoring AS SELECT count(*) n FROM pg_database;
CREATE FUNCTION f_volatile() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_inlined() RETURNS int LANGUAGE sql STABLE AS 'SELECT v FROM t';
CREATE FUNCTION f_about_catalogs() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM pg_class';
CREATE FUNCTION f_of(oid, oid) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT v FROM t) > 0; END';
CREATE OPERATOR === (LEFTARG = oid, RIGHTARG = oid, FUNCTION = f_of);
CREATE DOMAIN looked_up AS text CHECK (f_volatile() > 0);
CREATE TYPE has_looked_up AS (a looked_up);
CREATE TYPE looked_up_range AS RANGE (subtype = looked_up, multirange_type_name = looked_up_ranges);
CREATE FUNCTION now() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE ROLE patient LOGIN;
CREATE ROLE ruled LOGIN;
CREATE ROLE floored LOGIN;
CREATE ROLE in_role LOGIN;
GRANT pg_monitor, pg_read_all_data TO patient, ruled, floored, in_role;
ALTER ROLE in_role SET tcs.read_level = 'linearizable';
ALTER ROLE patient SET tcs.max_wait = -1;
SELECT tcs.set_rule(NULL, 'strong', role => 'ruled');
SELECT tcs.set_rule(NULL, 'strong', floor => 'strong', role => 'floored');
});
my $lo = read_at($primary, q{SELECT lo_from_bytea(0, 'x')});
my %number = map { $_ => read_at($primary, "SELECT '$_'::regtype::oid") }
  qw(looked_up has_looked_up looked_up_range looked_up_ranges);
my $written = write_token($primary, 'UPDATE t SET v = 2');
wait_for_replay($primary, $standby);

# This session and this node.
my @own = (
	'SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET work_mem',
	q{SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1)},
	'TABLE pg_prepared_statements',
	'TABLE pg_cursors',
	'TABLE pg_replication_slots',
	'TABLE pg_locks',
	'SELECT count(*) FROM pg_settings',
	'SELECT count(*) FROM pg_file_settings',
	'SELECT count(*) FROM pg_hba_file_rules',
	'SELECT pg_stat_reset()',
	'SELECT pg_stat_clear_snapshot()',
	'SELECT current_schema(), current_schemas(true), current_database(), current_user, session_user, CURRENT_DATE',
	'SELECT current_schema, CURRENT_TIMESTAMP, LOCALTIME, pg_catalog.now(), random(), gen_random_uuid()',
	q{SELECT 'now'::text::timestamptz, to_char(pg_catalog.now(), 'YYYY'), date_trunc('day', pg_catalog.now())},
	'SELECT pg_is_in_recovery(), (SELECT json_agg(x) FROM (SELECT slot_name, plugin, catalog_xmin FROM pg_get_replication_slots()) x)',
	'SELECT count(*) FROM pg_stat_get_wal_senders() w JOIN pg_stat_get_activity(NULL) a ON a.pid = w.pid',
	q{SELECT count(*) FROM pg_ls_dir('.')},
	'SELECT count(*) FROM pg_ls_waldir()',
	'SELECT pg_current_logfile(), pg_jit_available(), pg_trigger_depth(), pg_client_encoding()',
	'SELECT count(*) FROM pg_timezone_names',
	'SELECT setseed(0.5)',
	'EXPLAIN ANALYZE SELECT 1',
	'PREPARE own AS SELECT pg_backend_pid(); EXECUTE own; DEALLOCATE own',
	'BEGIN; DECLARE c CURSOR FOR SELECT pg_backend_pid(); FETCH c; COMMIT',
	'COPY (SELECT pg_backend_pid()) TO STDOUT');

# System catalogs, as agents, monitoring and drivers read them.
my @catalogs = (
	'SELECT count(*) FROM pg_database',
	'SELECT r.rolname, w.state FROM pg_stat_get_wal_senders() w JOIN pg_stat_get_activity(NULL) a ON a.pid = w.pid JOIN pg_authid r ON r.oid = a.usesysid',
	q{SELECT rolname FROM pg_authid WHERE rolname = 'postgres'},
	'SELECT datname, pg_database_size(oid) FROM pg_database',
	'SELECT sum(n_live_tup) FROM pg_stat_user_tables',
	'SELECT count(*) FROM information_schema.tables',
	'SELECT count(*) FROM information_schema.columns',
	'SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum ORDER BY 1, 2 LIMIT 5',
	'SELECT pg_get_viewdef(c.oid), obj_description(c.oid), has_table_privilege(c.oid, \'SELECT\') FROM pg_class c WHERE relname = \'t_view\'',
	q{SELECT 't'::regclass},
	q{SELECT to_regclass('t')},
	'WITH RECURSIVE m AS (SELECT oid FROM pg_authid UNION SELECT roleid FROM pg_auth_members) SELECT count(*) FROM m',
	'SELECT count(*) FROM pg_type WHERE oid IN (SELECT prorettype FROM pg_proc)',
	'SELECT count(*) OVER (PARTITION BY relkind ORDER BY oid) FROM pg_class LIMIT 3',
	'SELECT s.n FROM monitoring s',
	'SELECT count(*) FROM pg_database, tcs.status',
	'EXPLAIN ANALYZE SELECT count(*) FROM pg_class',
	'PREPARE own AS SELECT count(*) FROM pg_class WHERE relname = $1; EXECUTE own(\'t\'); DEALLOCATE own',
	'BEGIN; DECLARE c CURSOR FOR SELECT relname FROM pg_class; FETCH c; COMMIT',
	'DECLARE h CURSOR WITH HOLD FOR SELECT relname FROM pg_class; FETCH h; CLOSE h',
	'COPY pg_database TO STDOUT',
	'COPY (SELECT * FROM pg_database) TO STDOUT');

# Data of users, or nobody knows.
my @data = (
	'SELECT v FROM t',
	'SELECT v FROM t_view',
	'SELECT count(*) FROM pg_class, t',
	'SELECT count(*) FROM pg_class WHERE EXISTS (SELECT FROM t)',
	'SELECT relname, f_volatile() FROM pg_class',
	'SELECT relname, f_immutable() FROM pg_class LIMIT 1',
	'SELECT relname FROM pg_class WHERE f_immutable() = 2',
	'SELECT relname, f_inlined() FROM pg_class',
	'SELECT count(*) FROM pg_class, f_about_catalogs()',
	'SELECT relname FROM pg_class ORDER BY f_volatile()',
	'SELECT relname FROM pg_class LIMIT f_volatile()',
	'SELECT relname FROM pg_class WHERE oid === oid',
	'SELECT relname, public.now() FROM pg_class',
	q{SELECT datname::text::looked_up FROM pg_database},
	q{SELECT count(*) FROM pg_database, json_to_record('{"a": "x"}') AS j(a looked_up)},
	"SELECT array_in('{x}', $number{looked_up}, -1)",
	"SELECT record_in('(x)', $number{has_looked_up}, -1)",
	"SELECT range_in('[x,y]', $number{looked_up_range}, -1)",
	"SELECT multirange_in('{[x,y]}', $number{looked_up_ranges}, -1)",
	q{SELECT query_to_xml('SELECT v FROM t', true, true, '') FROM pg_database},
	q{SELECT table_to_xml(oid, true, true, '') FROM pg_class WHERE relname = 't'},
	q{SELECT * FROM pg_database, ts_stat('SELECT to_tsvector(v::text) FROM t')},
	q{SELECT pg_relation_size(oid) FROM pg_class WHERE relname = 't'},
	"SELECT lo_get(l.oid) FROM pg_database, (VALUES (${lo}::oid)) l(oid)",
	'SELECT data FROM pg_largeobject',
	'SELECT count(*) FROM pg_largeobject_metadata',
	q{SELECT currtid2('t', '(0,1)') FROM pg_database},
	'SELECT pg_current_snapshot()',
	'SELECT pg_export_snapshot()',
	q{SELECT pg_xact_status('3'::xid8)},
	'SELECT count(*) FROM pg_sequences, t',
	q{DO 'BEGIN END'},
	'EXPLAIN ANALYZE SELECT f_immutable() FROM pg_class',
	'PREPARE own AS SELECT $1::int FROM pg_class; EXECUTE own(f_volatile())',
	'COPY (SELECT f_immutable() FROM pg_class) TO STDOUT',
	'COPY t TO STDOUT',
	'COPY pg_largeobject TO STDOUT');

push @data, q{SELECT pg_input_is_valid('1', 'looked_up') FROM pg_database}
  if server_version($primary) >= 16;

# All statements of a list end with a state that matches; each list in one session.
sub all_are
{
	my ($make, $what, $state, @list) = @_;
	my $c = $make->();
	my @not;

	foreach my $sql (@list)
	{
		my $is = error_after($c, $sql);

		push @not, "$is: $sql" if $is !~ /^(?:$state)$/;
		$c->query('ROLLBACK');
		$c->query('DEALLOCATE ALL');
	}
	is(join("\n", @not), '', $what);
}

# No client could have this level's answer here; who asks for it, and how.
my %ways = (
	configuration => {},
	role => { user => 'in_role' },
	'start-up options' => { options => '-c tcs.read_level=bounded' },
	'a rule for the role' => { user => 'ruled', options => '-c tcs.read_level=eventual' },
	'a floor for the role' => { user => 'floored', set => 'eventual' });

$standby->append_conf('postgresql.conf', q{tcs.read_level = 'strong'});
$standby->reload;
$standby->poll_query_until('postgres', q{SELECT current_setting('tcs.read_level') = 'strong'})
  or die 'the configuration is not read';
foreach my $way (sort keys %ways)
{
	my $make = sub {
		my $c = TcsWire->new($standby, %{ $ways{$way} });

		$c->ok_query("SET tcs.read_level = '$ways{$way}{set}'") if $ways{$way}{set};
		return $c;
	};
	my @may = grep { $way !~ /role/ || !/pg_authid|pg_ls_|pg_hba|pg_file_s|pg_stat_reset|pg_current_logf/ } @own, @catalogs;

	all_are($make, "$way: about itself", '00000', @may);
	# with rules, what planning runs is compared (55000) before the statement is refused
	all_are($make, "$way: data", 'TC004|55000', grep { $way !~ /role/ || !/pg_largeobject|lo_get/ } @data);
}

# A standby waits for ever with tcs.max_wait = -1; not for its agent.
all_are(sub { TcsWire->new($standby, user => 'patient') },
	'without a limit to the wait', '00000', 'SELECT count(*) FROM pg_database');

# What the client says itself binds catalogs, and still not the session's own state.
foreach my $how (
	q{SET tcs.read_level = 'strong'},
	q{SELECT set_config('tcs.read_level', 'bounded', false)},
	q{SET tcs.without_token = 'error'; SET tcs.read_level = 'session'})
{
	my $make = sub {
		my $c = TcsWire->new($standby);

		$c->ok_query($how);
		return $c;
	};
	my $state = $how =~ /without/ ? 'TC005' : 'TC004';

	all_are($make, "$how: own", '00000', @own);
	all_are($make, "$how: catalogs", $state, @catalogs);
}
all_are(sub { TcsWire->new($standby) },
	'a hint binds catalogs', 'TC004', '/* tcs(strong) */ SELECT count(*) FROM pg_database');
all_are(sub { TcsWire->new($standby) },
	'SET LOCAL binds catalogs', 'TC004', q{BEGIN; SET LOCAL tcs.read_level = 'strong'; SELECT count(*) FROM pg_database; COMMIT});

# A token counts whatever the level comes from: one's own DDL is seen.
pause_replay($standby);
my $ahead = write_token($primary, 'CREATE TABLE newer ()');
all_are(sub { my $c = TcsWire->new($standby); $c->ok_query("SET tcs.session_token = '$ahead'"); $c },
	'a token binds catalogs', 'TC001', grep { !/^BEGIN/ } @catalogs);
all_are(sub { my $c = TcsWire->new($standby); $c->ok_query("SET tcs.session_token = '$written'"); $c },
	'one that is replayed lets them pass', '00000', @catalogs);
resume_replay($standby);

# In REPEATABLE READ too, and what comes after it is told the true reason.
my $c = TcsWire->new($standby);
$c->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is(error_after($c, 'SELECT count(*) FROM pg_database'), '00000', 'REPEATABLE READ: catalogs');
is(error_after($c, 'SELECT v FROM t'), 'TC004', 'REPEATABLE READ: then data');
$c->query('ROLLBACK');

# asyncpg's reset of a pooled connection, in every way that a level can be standing.
foreach my $way (sort keys %ways)
{
	my $c = TcsWire->new($standby, %{ $ways{$way} });

	is(error_after($c, 'SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;'),
		'00000', "$way: a pool resets its connection");
}

# Prepared by a driver when all was well, on a plan that is kept.
$c = TcsWire->new($standby);
$c->ok_query(q{SET plan_cache_mode = force_generic_plan; SET tcs.read_level = eventual});
$c->parse('about', 'SELECT count(*) > 0 FROM pg_database WHERE datname <> $1')
  ->parse('immutable', 'SELECT f_immutable() FROM pg_class LIMIT 1')->sync->results;
$c->bind('', 'about', 'x')->execute('')->bind('', 'immutable')->execute('')->sync->results;
$c->ok_query('RESET tcs.read_level');
is(TcsWire::describe_result(($c->bind('', 'about', 'x')->execute('')->sync->results)[0]),
	't', 'prepared at eventual, then at a standing level');
is(($c->bind('', 'immutable')->execute('')->sync->results)[0]{state},
	'TC004', 'a function that planning has evaluated is seen');
$c->ok_query(q{SET tcs.read_level = 'strong'});
is(($c->bind('', 'about', 'x')->execute('')->sync->results)[0]{state}, 'TC004', 'and not at one that was said');
$c->disconnect;

# What the client is told.
$c = TcsWire->new($standby);
$c->ok_query('SELECT count(*) FROM pg_database');
is($c->ok_query('SELECT outcome, level, level_source FROM tcs.last_read'),
	'served|eventual|exempt', 'last_read(): by exempt');
is($c->ok_query(q{SELECT level, level_source FROM tcs.explain_level('SELECT * FROM pg_database')}),
	'eventual|exempt', 'explain_level()');
is($c->ok_query(q{SELECT level, level_source FROM tcs.explain_level('SELECT * FROM pg_database, t')}),
	'strong|configuration', 'explain_level() of data');

done_testing();
