# test/t/805_explain_privileges.pl
#
# Who may not run a statement is not told by tcs.explain_level() which rules there
# are for what it reads or writes; and what the manual says is to be revoked.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $primary = new_primary('node');
my ($revoke) = slurp_file("$FindBin::RealBin/../../docs/security.md") =~ /^## What to revoke\n.*?^```sql[^\n]*\n(.*?)^```/ms;
my $as = sub { return psql_err($primary, $_[0], user => 'mallory') };
my $explain = sub { return "SELECT level_detail FROM tcs.explain_level(\$q\$$_[0]\$q\$)" };
my $told = sub { return read_at($primary, $explain->($_[0]), user => 'mallory') };

$primary->safe_psql('postgres', q{
CREATE ROLE mallory LOGIN;
CREATE TABLE secret (a int, b int);
CREATE TABLE shown (a int);
CREATE TABLE referred (a int PRIMARY KEY);
ALTER TABLE secret ADD FOREIGN KEY (a) REFERENCES referred;
GRANT TRUNCATE ON referred TO mallory;
CREATE VIEW seen AS SELECT a FROM secret;
CREATE TABLE columns (a int, b int);
CREATE TABLE written (a int); CREATE TABLE moved (a int);
CREATE VIEW through WITH (security_invoker) AS SELECT a FROM secret;
CREATE MATERIALIZED VIEW stored AS SELECT a FROM shown;
GRANT SELECT ON seen, through, shown, stored, tcs.rules TO mallory;
GRANT SELECT (a), INSERT (a) ON columns TO mallory;
GRANT INSERT, SELECT, TRUNCATE ON written TO mallory;
GRANT SELECT ON moved TO mallory;
CREATE FUNCTION hidden() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION hidden() FROM PUBLIC;
CREATE VIEW calls_hidden AS SELECT hidden();
GRANT SELECT ON calls_hidden TO mallory;
CREATE FUNCTION peek() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT a FROM secret';
CREATE FUNCTION peek_hidden() RETURNS int LANGUAGE sql AS 'SELECT hidden()';
SELECT tcs.set_rule(r::regclass, 'strong', reason => 'of ' || r) FROM unnest('{secret,shown,columns}'::text[]) r;
SELECT tcs.set_rule(r::regclass, 'strong', operation => 'write', reason => 'of ' || r) FROM unnest('{secret,stored,columns}'::text[]) r;
SELECT tcs.set_rule(function => 'hidden()', level => 'strong', reason => 'of hidden');
});
foreach my $sql (
	'SELECT 1 FROM secret', 'SELECT b FROM secret', 'SELECT (SELECT a FROM secret)', 'SELECT 1 FROM shown WHERE a IN (SELECT a FROM secret)',
	'WITH x AS (SELECT a FROM secret) SELECT * FROM x', 'DELETE FROM secret', 'INSERT INTO secret VALUES (1)', 'UPDATE secret SET a = 1',
	'INSERT INTO shown SELECT a FROM secret', 'COPY secret TO STDOUT', 'COPY (SELECT a FROM secret) TO STDOUT', 'COPY secret FROM STDIN',
	'EXPLAIN SELECT a FROM secret', 'DECLARE c CURSOR FOR SELECT a FROM secret', 'CREATE TABLE c AS SELECT a FROM secret',
	'SELECT hidden()', 'SELECT a FROM shown ORDER BY hidden()',
	(map { ("EXPLAIN $_", "DECLARE c CURSOR FOR $_", "CREATE TABLE c AS $_", "COPY ($_) TO STDOUT") }
		'SELECT a FROM through', 'SELECT * FROM calls_hidden', 'SELECT * FROM peek()', 'SELECT peek_hidden()'),
	'SELECT * FROM peek()', 'SELECT peek_hidden()',
	'COPY columns TO STDOUT', 'COPY columns (b) TO STDOUT', 'COPY (SELECT b FROM columns) TO STDOUT', 'COPY columns (b) FROM STDIN',
	'TRUNCATE secret', 'TRUNCATE referred CASCADE', 'TRUNCATE ONLY referred CASCADE', 'REFRESH MATERIALIZED VIEW stored')
{
	my ($state, $stderr) = $as->($explain->($sql));

	is($state, '42501', "explain_level() without the privilege: $sql");
	unlike($stderr, qr/rule|of (secret|hidden)/, '... tells nothing of the rule');
}
is(scalar $as->('PREPARE p AS SELECT a FROM secret; ' . $explain->('EXECUTE p')), '42501', '... nor of a prepared statement');
{
	my $client = TcsWire->new($primary, user => 'mallory');
	my $state = sub { return ($client->query($_[0]))[0]{state} };

	$client->ok_query('PREPARE p AS SELECT a FROM moved; EXECUTE p');
	$primary->safe_psql('postgres', q{ALTER TABLE moved RENAME TO away; CREATE TABLE moved (a int); SELECT tcs.set_rule('moved', 'strong', reason => 'of moved')});
	is($state->($explain->('EXECUTE p')), '42501', '... nor of one whose name means another table by now');

	$client->ok_query('PREPARE q AS SELECT a FROM away; EXECUTE q');
	$primary->safe_psql('postgres', 'ALTER TABLE away RENAME TO gone');
	is($state->('EXECUTE q'), '42P01', 'a prepared statement without its table');
	$primary->safe_psql('postgres', q{ALTER TABLE gone RENAME TO away; REVOKE ALL ON away FROM mallory; SELECT tcs.set_rule('away', 'strong', reason => 'of away')});
	is($state->($explain->('EXECUTE q')), '42501', '... tells nothing when that is back');

	$client->parse('itself', 'EXECUTE itself')->sync->results;
	is($state->($explain->('EXECUTE itself')), '00000', 'an EXECUTE of itself is looked at once');
	is($state->('EXECUTE itself'), '54001', '... and fails as without the library');
}
like($told->($_), qr/rule [0-9]+: of (secret|shown|columns)$/, "with the privilege: $_")
  foreach ('SELECT a FROM seen', 'SELECT a FROM shown', 'COPY shown TO STDOUT', 'TABLE shown', 'EXPLAIN SELECT a FROM seen',
	'COPY (SELECT a FROM seen) TO STDOUT', 'COPY columns (a) TO STDOUT', 'COPY (SELECT a FROM columns) TO STDOUT');
is(scalar $as->($explain->($_)), '00000', "with the privilege: $_")
  foreach ('COPY columns (a) FROM STDIN', 'COPY (INSERT INTO written VALUES (1) RETURNING 1) TO STDOUT', 'TRUNCATE written');

like($revoke, qr/REVOKE .*REVOKE /s, 'what the manual says is to be revoked');
$primary->safe_psql('postgres', "$revoke; REVOKE SELECT ON tcs.rules FROM mallory");
is( $primary->safe_psql('postgres', q{
		SELECT string_agg(oid::regclass::text, ' ') FROM pg_class
		 WHERE relnamespace = 'tcs'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'last_read' AND has_any_column_privilege('mallory', oid, 'SELECT')}),
	'', '... leaves nothing but the session\'s own last read in tables and views');
is( $primary->safe_psql('postgres', q{
		SELECT string_agg(DISTINCT d.refobjid::regprocedure::text, ' ')
		  FROM pg_depend d JOIN pg_rewrite w ON d.objid = w.oid JOIN pg_class c ON c.oid = w.ev_class
		 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384 AND
			   c.relnamespace = 'tcs'::regnamespace AND c.relname <> 'last_read' AND has_function_privilege('mallory', d.refobjid, 'EXECUTE')}),
	'', '... nor by the functions that views read');
like($told->('SELECT a FROM shown'), qr/rule [0-9]+$/, '... and the reason of a rule is not told');

done_testing();
