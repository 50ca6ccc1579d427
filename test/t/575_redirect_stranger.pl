# test/t/575_redirect_stranger.pl
#
# A redirect runs no code of a stranger.  A standby that is behind sends a text for
# a superuser, and on the primary somebody has taken a name in it by now: of what
# is read, of the database, or of the extension's functions, when that is gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsTest;

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

$primary->safe_psql('postgres', q{
	DROP EXTENSION tcs CASCADE;
	DROP SCHEMA tcs CASCADE;
});
$functions =~ s/redirect_begin\(text, text, text/redirect_begin(bigint, oid, oid/;
$functions =~ s/redirect_settings\(text/redirect_settings(bytea/;
is(psql_err($primary, "CREATE SCHEMA tcs_internal; GRANT USAGE ON SCHEMA tcs_internal TO PUBLIC; $functions", user => 'mallory'),
	'00000', 'a schema of that name');

my ($state, $message) = psql_err($standby, 'SET tcs.read_level = strong; SELECT v FROM t');

is($state, 'TC001', 'nothing is redirected to it');
like($message, qr/extension tcs is not installed in this database/, '... for that reason');
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of it was called');

done_testing();
