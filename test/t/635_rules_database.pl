# test/t/635_rules_database.pl
#
# Rules in a database that changes as a whole: one without the extension;
# tcs.enabled = off; DROP EXTENSION and CREATE again; 1,000 rules; dump and
# restore into a new cluster.
#
# explain_level() tells the level without running a statement.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsRules;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $rule = 'rule [0-9]+';
my $look = q{SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read};

everywhere([ $primary, $standby ], q{
CREATE TABLE t (v int);
CREATE TABLE u (v int);
CREATE TABLE plainer (v int);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE ROLE web LOGIN;
CREATE ROLE dba LOGIN;
CREATE SCHEMA s;
GRANT SELECT ON t TO web;
INSERT INTO t SELECT generate_series(1, 1000);
});


##
## A database without the extension; switched off
##

everywhere([ $primary, $standby ], 'CREATE DATABASE bare');
is(psql_err($standby, 'BEGIN; SELECT count(*) FROM pg_class; COMMIT', dbname => 'bare', level => 'strong'), '00000',
	'a database without the extension');
is(psql_err($primary, 'CREATE TABLE t (v int); DROP TABLE t; CREATE ROLE r; DROP ROLE r; CREATE SCHEMA tcs; CREATE TABLE tcs.rule (id int, role oid); CREATE TABLE tcs.rule_group (relation oid, name text); CREATE ROLE r; DROP ROLE r', dbname => 'bare'),
	'00000', '... also with tables of such names');

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'strong', max_wait => '10s')});
{
	my $session = TcsWire->new($standby);

	$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
	$standby->reload;
	$session->parse('p', 'SELECT count(*) FROM t')->sync;
	$session->results;
	$standby->poll_query_until('postgres', 'SHOW tcs.enabled', 'off');
	$session->ok_query('SELECT 1') until $session->ok_query('SHOW tcs.enabled') eq 'off';
	$session->bind('', 'p')->execute('')->sync;
	is(TcsWire::describe_result($session->results), '1000', 'switched off');
	is($session->ok_query('SELECT count(*) FROM tcs.last_read WHERE level_source IS NOT NULL'), '0', '... nothing is chosen');
	$standby->append_conf('postgresql.conf', 'tcs.enabled = on');
	$standby->reload;
	$session->ok_query('SELECT 1') until $session->ok_query('SHOW tcs.enabled') eq 'on';
	$session->bind('', 'p')->execute('')->sync;
	is(TcsWire::describe_result($session->results), '1000', 'switched on');
	like($session->ok_query($look), qr/^strong by $rule/, '... a plan made meanwhile has its rule');
	$session->disconnect;
}


##
## DROP EXTENSION and CREATE again
##

{
	my $session = TcsWire->new($standby);
	my $own = TcsWire->new($primary);

	foreach ($session, $own)
	{
		$_->parse('p', 'SELECT count(*) FROM t')->sync;
		$_->results;
	}
	my $run = sub
	{
		my ($s) = @_;

		$s->bind('', 'p')->execute('')->sync;
		return TcsWire::describe_result($s->results);
	};

	is($run->($_), '1000', 'before') foreach ($session, $own);
	like($session->ok_query($look), qr/^strong by/, 'a rule');
	everywhere([ $primary, $standby ], 'DROP EXTENSION tcs');
	is($run->($_), '1000', 'without the extension') foreach ($session, $own);
	is($session->ok_query(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'tcs'}), '1', 'its schema stays');
	everywhere([ $primary, $standby ], 'CREATE EXTENSION tcs');
	everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'strong', max_wait => '10s')});
	foreach ($session, $own)
	{
		is($run->($_), '1000', 'with it again');
		like($_->ok_query($look), qr/^strong by $rule/, '... and a rule');
	}
	everywhere([ $primary, $standby ], 'DROP EXTENSION tcs; CREATE EXTENSION tcs');
	is($run->($session), '1000', 'made anew');
	is($session->ok_query($look), 'session by default', '... without rules');
	$_->disconnect foreach ($session, $own);
}


##
## 1,000 rules
##

everywhere([ $primary, $standby ], q{
DO $$BEGIN
	FOR i IN 1 .. 990 LOOP
		EXECUTE format('CREATE TABLE many_%s (v int)', i);
		PERFORM tcs.set_rule(format('many_%s', i)::regclass, (ARRAY['bounded', 'session', 'strong'])[1 + i % 3]);
	END LOOP;
	FOR i IN 1 .. 10 LOOP
		PERFORM tcs.set_rule(application_name => 'app' || i, level => 'strong');
	END LOOP;
END$$;
});
is(read_at($standby, 'SELECT count(*) FROM tcs.rules'), '1000', '1,000 rules');
like(explain($standby, "SELECT * FROM $_->[0]"), qr/^$_->[1] by/, "... $_->[0]")
  foreach ([ 'many_1', 'session' ], [ 'many_2', 'strong' ], [ 'many_990', 'bounded' ], [ 't', 'session' ]);
like(explain($standby, 'SELECT * FROM t', set => { application_name => 'app7' }), qr/^strong by/, '... app7');
everywhere([ $primary, $standby ], q{DO $$BEGIN FOR i IN 1 .. 990 LOOP EXECUTE format('DROP TABLE many_%s', i); END LOOP; END$$});
is(read_at($standby, 'SELECT count(*) FROM tcs.rules'), '10', 'dropped with their tables');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## Dump and restore into a new cluster
##

everywhere([ $primary, $standby ], q{
CREATE VIEW v AS SELECT * FROM t;
CREATE TABLE gone (v int);
CREATE ROLE lost;
SELECT tcs.set_rule('t', 'strong', floor => 'session', hard => true, reason => 'dumped');
SELECT tcs.set_rule('v', 'bounded', max_staleness => '2s', max_wait => '3s', fallback => 'redirect, session, error');
SELECT tcs.set_rule(schema => 's', level => 'strong', role => 'web', application_name => 'x%');
SELECT tcs.set_rule(function => 'f()', level => 'strong');
SELECT tcs.set_rule('plainer', 'quorum', operation => 'write');
SELECT tcs.set_rule('gone', 'strong');
SELECT tcs.set_group('g', 't', 'plainer');
SET session_replication_role = replica;
DROP TABLE gone;
RESET session_replication_role;
});
my $columns = q{relation, function, schema, role, application_name, operation, level, max_staleness, max_wait, fallback, floor, hard, reason};
my $all = "SELECT $columns FROM tcs.rules WHERE relation IS NULL OR relation::oid IN (SELECT oid FROM pg_class) ORDER BY id";
my $dump = $primary->basedir . '/dump.sql';
my $globals = $primary->basedir . '/globals.sql';
command_ok([ $primary->installed_command('pg_dump'), '-f', $dump, '-d', $primary->connstr('postgres') ], 'pg_dump');
command_ok([ $primary->installed_command('pg_dumpall'), '-g', '-f', $globals, '-d', $primary->connstr('postgres') ], 'pg_dumpall');
{
	my $other = new_primary('other', extension => 0);

	# without its roles, the rules for them wait, and no others
	my (undef, $stdout, $stderr) = run_sql($other, "\\i $dump", on_error_stop => 0);

	like($stderr, qr/role "(web|dba)" does not exist/, 'a restore without the roles says so');
	is(read_at($other, 'SELECT unresolved, count(*) FROM tcs.rules GROUP BY 1 ORDER BY 1'), "role web|1\n|4",
		'... and has all rules but the one for such a role');

	$other->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
	run_sql($other, "\\i $globals", on_error_stop => 0);
	(undef, $stdout, $stderr) = run_sql($other, "\\i $dump", dbname => 'restored');
	is($stderr, '', 'a restore with them');
	is(read_at($other, $all, dbname => 'restored'), read_at($primary, $all), '... has all rules');
	is(read_at($other, 'SELECT name, relations FROM tcs.groups', dbname => 'restored'), 'g|{plainer,t}', '... and groups');
	like(read_at($other, q{SELECT level || ' ' || concat_ws(' ', level_source, rule_id) FROM tcs.explain_level('SELECT * FROM plainer')}, dbname => 'restored'),
		qr/^strong $rule/, '... and obeys them');
	is(psql_err($other, q{ALTER SCHEMA s RENAME TO renamed; ALTER FUNCTION f() RENAME TO renamed}, dbname => 'restored'), '00000', 'renamed there');
	is(read_at($other, q{SELECT string_agg(concat(schema, function), ',' ORDER BY id) FROM tcs.rules WHERE schema IS NOT NULL OR function IS NOT NULL}, dbname => 'restored'),
		'renamed,public.renamed()', '... with their rules');
	is(psql_err($other, q{SELECT tcs.set_rule('v', 'strong', role => 'dba')}, dbname => 'restored'), '00000', 'a new rule has a new id');
	$other->stop;
}
is(psql_err($primary, q{SELECT * FROM tcs.rules; SELECT * FROM tcs.groups; SELECT tcs.set_rule('t', 'strong')}), '00000',
	'a rule for what is gone does no harm');

done_testing();
