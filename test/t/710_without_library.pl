# test/t/710_without_library.pl
#
# DDL in a database that has the extension, on a server that does not load the
# library, or does not even have its file: as after a failover to a node that was
# not set up in full.  What can be done there is done as without the extension.  When
# the library is back, rules follow what has happened meanwhile.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my $primary = new_primary('primary');

sub rules_there
{
	return $primary->safe_psql('postgres',
		q{SELECT string_agg(concat_ws(' ', relation, function, schema), ', ' ORDER BY id) FROM tcs.rules});
}

sub loads
{
	my ($libraries) = @_;

	$primary->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$primary->restart;
	return;
}

# One group per kind of DDL that once came to the library.
my @ddl = (
	'CREATE TABLE x (v int); DROP TABLE x',
	'CREATE TEMP TABLE x (v int) ON COMMIT DROP',
	'ALTER TABLE t RENAME TO t2; ALTER TABLE t2 RENAME TO t',
	'ALTER TABLE t ADD COLUMN w int; ALTER TABLE t DROP COLUMN w',
	'CREATE VIEW x AS SELECT * FROM t; ALTER VIEW x RENAME TO y; DROP VIEW y',
	'CREATE MATERIALIZED VIEW x AS SELECT * FROM t; DROP MATERIALIZED VIEW x',
	'CREATE TYPE x AS (v int); ALTER TYPE x RENAME TO y; DROP TYPE y',
	'CREATE DOMAIN x AS int; ALTER DOMAIN x RENAME TO y; DROP DOMAIN y',
	q{CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION x() RENAME TO y; DROP FUNCTION y()},
	q{CREATE PROCEDURE x() LANGUAGE sql AS 'SELECT 1'; ALTER PROCEDURE x() RENAME TO y; DROP PROCEDURE y()},
	'CREATE AGGREGATE x(int) (SFUNC = int4pl, STYPE = int); ALTER AGGREGATE x(int) RENAME TO y; DROP AGGREGATE y(int)',
	'CREATE SCHEMA x; ALTER SCHEMA x RENAME TO y; CREATE TABLE t3 (v int); ALTER TABLE t3 SET SCHEMA y; DROP SCHEMA y CASCADE',
	'CREATE ROLE x; ALTER ROLE x RENAME TO y; DROP OWNED BY y; DROP ROLE y',
	'CREATE EXTENSION file_fdw; ALTER EXTENSION file_fdw UPDATE; DROP EXTENSION file_fdw',
	'CREATE INDEX x ON t (v); ALTER INDEX x RENAME TO y; REINDEX TABLE t; DROP INDEX y',
	'CREATE SEQUENCE x; ALTER SEQUENCE x RENAME TO y; DROP SEQUENCE y',
	'CREATE TABLE x AS SELECT 1 AS v; TRUNCATE x; DROP TABLE x',
	q{DO 'BEGIN CREATE TABLE x (v int); ALTER TABLE x RENAME TO y; DROP TABLE y; END'});

$primary->safe_psql(
	'postgres', q{
CREATE EXTENSION IF NOT EXISTS tcs;
CREATE TABLE t (v int);
CREATE TABLE gone (v int);
CREATE TABLE stays (v int);
CREATE SCHEMA gone_s;
CREATE SCHEMA stays_s;
CREATE TYPE ty AS (v int);
CREATE FUNCTION stays_f(ty) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT tcs.set_rule('gone', 'strong');
SELECT tcs.set_rule('stays', 'strong');
SELECT tcs.set_rule(schema => 'stays_s', level => 'strong');
SELECT tcs.set_rule(function => 'stays_f(ty)', level => 'strong');
SELECT tcs.set_group('g', 'gone', 'stays');
});
is($primary->safe_psql('postgres', q{SELECT count(*) FROM pg_event_trigger}),
	'0', 'there is no event trigger that could fail');
is(psql_err($primary, $_), '00000', "with the library: $_") foreach @ddl;

loads('');
is(psql_err($primary, $_), '00000', "not loaded: $_") foreach @ddl;

# A file that is not there.
$primary->safe_psql('postgres', q{UPDATE pg_proc SET probin = '$libdir/tcs_is_missing' WHERE probin LIKE '%/tcs'});
is(psql_err($primary, $_), '00000', "not there: $_") foreach @ddl;
is( psql_err(
		$primary, q{
DROP TABLE gone;
DROP SCHEMA gone_s;
ALTER TABLE stays RENAME TO renamed;
ALTER SCHEMA stays_s RENAME TO renamed_s;
ALTER TYPE ty RENAME TO renamed_ty;
}),
	'00000',
	'what has rules is dropped and renamed');
$primary->safe_psql('postgres', q{UPDATE pg_proc SET probin = '$libdir/tcs' WHERE probin = '$libdir/tcs_is_missing'});

loads('tcs');
is(psql_err($primary, 'ALTER TABLE renamed RENAME TO t4'), '00000', 'something is renamed');
is($primary->safe_psql('postgres', q{SELECT tcs.set_rule('t', 'strong') > 0}), 't', 'a rule is made');
is(rules_there(), 't4, renamed_s, public.stays_f(public.renamed_ty), t', 'rules have followed what has happened without them');
is($primary->safe_psql('postgres', 'DROP TABLE t4; DROP SCHEMA renamed_s; DROP TYPE renamed_ty CASCADE') . rules_there(),
	't', 'what is dropped takes its rules with it again');
is($primary->safe_psql('postgres', q{SELECT count(*) FROM tcs.rule_group WHERE relation::oid IN (SELECT oid FROM pg_class)}),
	'0', '... and is in no group');

# Without library and file, the extension can also be taken out.
loads('');
$primary->safe_psql('postgres', q{UPDATE pg_proc SET probin = '$libdir/tcs_is_missing' WHERE probin LIKE '%/tcs'});
is(psql_err($primary, 'DROP EXTENSION tcs'), '00000', 'DROP EXTENSION');

done_testing();
