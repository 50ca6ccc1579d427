# test/t/575_redirect_stranger.pl
#
# A redirect runs no code of a stranger.  A standby that is behind sends a text for
# a superuser, and on the primary somebody has taken a name in it by now: of what
# is read, of the database, or of the extension's functions, when that is gone or dropped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsRedirect;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

redirect_to($primary);
$primary->safe_psql('postgres', q{
	CREATE TABLE t AS SELECT 1 AS v;
	CREATE ROLE mallory LOGIN;
	GRANT CREATE ON DATABASE postgres TO mallory;
	CREATE SCHEMA shared;
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO mallory;
	CREATE TABLE app.v AS SELECT 1 AS i;
	CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
	CREATE TYPE app.kind AS ENUM ('a');
});
$primary->safe_psql('postgres', "CREATE DATABASE $_") foreach ('first', 'second', 'other');
foreach my $database ('first', 'second')
{
	$primary->safe_psql($database, "CREATE EXTENSION tcs; CREATE TABLE t AS SELECT '$database' AS v");
	redirect_to($primary, dbname => $database);
}
wait_for_replay($primary, $standby);
pause_replay($standby);

$primary->safe_psql('postgres', 'UPDATE t SET v = 2');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', 'redirected');

# Objects in an earlier schema of search_path, made where the standby is not yet.
# Each is read by its qualified name; in the text the schema can be left out.
$primary->safe_psql('postgres', q{
	GRANT CREATE, USAGE ON SCHEMA shared TO mallory;
});
is(psql_err($primary, q{
	CREATE FUNCTION shared.evil() RETURNS int LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN 666; END$$;
	CREATE VIEW shared.v AS SELECT shared.evil() AS i;
	CREATE FUNCTION shared.f(int) RETURNS int LANGUAGE sql AS 'SELECT shared.evil()';
	CREATE FUNCTION shared.equals(app.kind, app.kind) RETURNS bool LANGUAGE sql AS 'SELECT shared.evil() = 666';
	CREATE OPERATOR shared.= (LEFTARG = app.kind, RIGHTARG = app.kind, FUNCTION = shared.equals);
	CREATE FUNCTION shared.lower(text) RETURNS text LANGUAGE sql AS 'SELECT shared.evil()::text';
	CREATE VIEW shared.pg_namespace AS SELECT shared.evil() AS oid;
}, user => 'mallory'), '00000', 'objects in an earlier schema');
my $taken = log_position($primary);

foreach my $sql (
	'SELECT i FROM app.v',
	'SELECT app.f(1) FROM app.v',
	q{SELECT count(*) FROM app.v WHERE 'a'::app.kind IS NOT DISTINCT FROM 'a'::app.kind},
	q{SELECT pg_catalog.lower('A') FROM app.v},
	'SELECT count(oid) > 3 FROM pg_catalog.pg_namespace',
	'SELECT array[i] FROM app.v',
	q{SELECT 'app.v'::regclass::oid = to_regclass('app.v')::oid FROM app.v})
{
	my %how = (level => 'strong', set => { search_path => 'shared, app, pg_catalog' });

	my (undef, $rows, $error) = run_sql($standby, $sql, %how);

	unlike($rows, qr/666|^f/, "$sql: not by its name alone") or diag $error;
}
is(read_at($standby, 'SELECT i FROM app.v', level => 'strong', set => { search_path => q{''} }), '1',
	'... and is read where the text has the schema');
unlike(log_since($primary, $taken), qr/LOG:  called by/, 'nothing of the earlier schema was run');

# Another database has taken the name of this one.
$primary->safe_psql('other', 'ALTER DATABASE first RENAME TO gone; ALTER DATABASE second RENAME TO first');
is((run_sql($standby, 'SELECT v FROM t', level => 'strong', dbname => 'first'))[1], '',
	'another database of that name is not read');

# One that fits the name and any text fits better than an unknown parameter would.
$primary->safe_psql('postgres', 'GRANT CREATE ON SCHEMA tcs_internal TO mallory');
my $functions = q{
	CREATE FUNCTION tcs_internal.redirect_begin(text, text, text, bytea) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN ''; END$$;
	CREATE FUNCTION tcs_internal.redirect_settings(text) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; END$$;
};
my $position = log_position($primary);

is(psql_err($primary, $functions, user => 'mallory'), '00000', 'functions of the same names');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', '... are not those that are called');


# The extension is dropped while a redirect is under way, and mallory waits for that
# with a schema of the same name, and with what is called by name there.
my $look = TcsWire->new($primary);
my $stranger = q{
	CREATE SCHEMA tcs_internal;
	GRANT USAGE ON SCHEMA tcs_internal TO PUBLIC;
	CREATE FUNCTION tcs_internal.called() RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN true; END$$;
	CREATE FUNCTION tcs_internal.redirect_begin(bigint, oid, oid, bytea) RETURNS text
		LANGUAGE sql AS 'SELECT tcs_internal.called()::text';
	CREATE FUNCTION tcs_internal.redirect_settings(bytea) RETURNS bool
		LANGUAGE sql AS 'SELECT tcs_internal.called()';
	CREATE FUNCTION tcs_internal.redirect_check(bool, bool) RETURNS bool
		LANGUAGE sql AS 'SELECT tcs_internal.called()';
	CREATE FUNCTION tcs_internal.redirect_text(record) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN RETURN tcs_internal.called(); END$$;
};
my @strong = ($standby, '', set => 'SET tcs.read_level = strong; SET tcs.max_wait = 10');
my $in_use = q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'redirect_lock'};

# Sends DROP EXTENSION; true if it waits for a lock, false if it has ended.
sub drop_waits
{
	my ($ddl) = @_;

	$ddl->simple('DROP EXTENSION tcs CASCADE');
	$ddl->flush;
	$look->poll(sprintf q{SELECT state = 'idle' OR wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %d}, $ddl->pid);
	return !$ddl->answered;
}

# As it was before.
sub install_again
{
	$primary->safe_psql('postgres', 'DROP SCHEMA IF EXISTS tcs_internal CASCADE; CREATE EXTENSION tcs');
	return;
}

my $ddl = TcsWire->new($primary);
my $client = redirect_session(@strong);

is($client->ok_query('SELECT v FROM t'), '2', 'redirected by a connection that is kept');
is($look->ok_query($in_use), '0', '... and locks nothing while it is idle');

$position = log_position($primary);
$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($client->ok_query('SELECT v FROM t'), '2', 'REPEATABLE READ: redirected');
foreach my $test (
	[ 'ALTER VIEW tcs_internal.redirect_lock RENAME TO other', 'the view gets no other name' ],
	[ 'ALTER VIEW tcs_internal.redirect_lock SET SCHEMA app', '... nor another schema' ],
	[ 'ALTER EXTENSION tcs DROP VIEW tcs_internal.redirect_lock; DROP EXTENSION tcs CASCADE', '... nor is the extension dropped without it' ],
	[ 'DROP SCHEMA tcs CASCADE', '... nor with its schema' ],
	map { [ "ALTER EXTENSION tcs DROP FUNCTION tcs_internal.$_; DROP FUNCTION tcs_internal.$_ CASCADE", "... nor is $_ dropped" ] }
	('redirect_begin(bigint, oid, oid, bytea)', 'redirect_settings(bytea)', 'redirect_check(bool, bool)', 'redirect_text(record)'))
{
	is(psql_err($primary, "BEGIN; SET LOCAL lock_timeout = 1; $test->[0]; ROLLBACK"), '55P03', $test->[1]);
}
ok(drop_waits($ddl), 'DROP EXTENSION waits for it');
psql_err($primary, $stranger, user => 'mallory');
$client->query(q{SET TimeZone = 'Asia/Tokyo'});
is(($client->query('SELECT v FROM t'))[0]{state}, '00000', '... and settings are still sent');
is(($client->query(q{SELECT to_regclass('t')}))[0]{state}, '00000', '... and text is brought');
is($look->ok_query("$in_use AND granted"), '1', '... under one lock');

my $refused = (redirect_session(@strong)->query('SELECT v FROM t'))[0];

is($refused->{state}, 'TC001', '... while nothing else is redirected');
like($refused->{error}{D} // '', qr/extension tcs in database "postgres" there is locked by a transaction that drops or alters it/,
	'... for that reason');
$client->query('COMMIT');
$ddl->results;
is($look->ok_query('SELECT count(*) FROM pg_extension WHERE extname = \'tcs\''), '0', '... and then drops it');
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of mallory was called');
install_again();

# One statement is checked when it has ended.
$position = log_position($primary);
$primary->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION app.f(int) RETURNS int LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_lock($1); PERFORM pg_advisory_unlock($1); RETURN $1; END'});
$look->ok_query('SELECT pg_advisory_lock(7)');
$client = redirect_session(@strong);
$client->simple('SELECT app.f(7)');
$client->flush;
ok($look->poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'a statement is under way');
ok(drop_waits($ddl), '... and DROP EXTENSION waits for it');
psql_err($primary, $stranger, user => 'mallory');
$look->ok_query('SELECT pg_advisory_unlock(7)');
is(($client->results)[0]{state}, '00000', '... until it is checked');
$ddl->results;
unlike(log_since($primary, $position), qr/LOG:  called by/, '... by no function of mallory');
$client->disconnect;

# Now it is gone.
$position = log_position($primary);
$primary->safe_psql('postgres', 'DROP SCHEMA IF EXISTS tcs_internal CASCADE; DROP SCHEMA tcs CASCADE');
is(psql_err($primary, $stranger, user => 'mallory'), '00000', 'a schema of that name');
foreach my $test (
	[ 'SELECT', qr/database "postgres" there has no extension tcs/, 'without a view' ],
	[ 'CREATE VIEW tcs_internal.redirect_lock AS SELECT true AS locked WHERE tcs_internal.called(); GRANT SELECT ON tcs_internal.redirect_lock TO PUBLIC',
		qr/extension tcs is not installed in this database/, 'with one that calls a function' ])
{
	is(psql_err($primary, $test->[0], user => 'mallory'), '00000', $test->[2]);

	my ($state, $message) = psql_err($standby, 'SET tcs.read_level = strong; SELECT v FROM t');

	is($state, 'TC001', '... nothing is redirected to it');
	like($message, $test->[1], '... for that reason');
}
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of it was called');

done_testing();
