# test/t/614_hints_prepared.pl
#
# The hint of a prepared statement goes with it, whatever runs it: a Bind, an
# EXECUTE, or an EXECUTE within another statement, which cannot wait any more and
# is refused.  Nor does it get lost in a plan that one of them has made and another
# one uses.  The hints in the text of functions are still not read.
#
# Replay of the standby is paused: what is served at the level of the session is old.

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

my ($primary, $standby) = new_pair();
my $strong = '/* tcs(strong) */';
my $read = 'SELECT v FROM t';

$primary->safe_psql('postgres', q{
CREATE TABLE t (v text);
INSERT INTO t VALUES ('old');
CREATE FUNCTION run(text) RETURNS text LANGUAGE plpgsql AS $$DECLARE r text; BEGIN EXECUTE $1 INTO r; RETURN r; END$$;
CREATE FUNCTION loop(text) RETURNS text LANGUAGE plpgsql AS
	$$DECLARE r record; BEGIN FOR r IN EXECUTE $1 LOOP RETURN r.v; END LOOP; RETURN NULL; END$$;
CREATE FUNCTION cursor(text) RETURNS refcursor LANGUAGE plpgsql AS
	$$DECLARE r refcursor := 'c'; BEGIN OPEN r FOR EXECUTE $1; RETURN r; END$$;
CREATE FUNCTION in_sql() RETURNS text LANGUAGE sql AS 'EXECUTE p; SELECT NULL';
CREATE PROCEDURE call(text) LANGUAGE plpgsql AS $$DECLARE r text; BEGIN EXECUTE $1 INTO r; RAISE NOTICE 'read %', r; END$$;
CREATE FUNCTION folded() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT v FROM t); END$$;
CREATE PROCEDURE nothing() LANGUAGE plpgsql AS 'BEGIN NULL; END';
});

# One that has prepared nothing, so that no plan is left.
sub session
{
	my (@options) = ('-c tcs.fallback=error -c tcs.hints=all', @_);

	return TcsWire->new($standby, options => "@options");
}

# Refused: behind, or nobody knows whether it is, since nothing is waited for.
my $refused = qr/^TC00[14]$/;

# Answers to a prepared statement that is bound.
sub bound
{
	my ($c, $name) = @_;

	return answers($c->bind('', $name)->execute('')->sync->results);
}

sub prepare_by_parse
{
	my ($c, $name, $sql) = @_;
	my @failed = $c->parse($name, $sql)->sync->results;

	is(answers(@failed), '', "Parse: $sql");
	return;
}

# Replay stands at "old", and the primary has "new".  Returns the token of that.
sub stand_still
{
	resume_replay($standby);
	$primary->safe_psql('postgres', q{UPDATE t SET v = 'old'});
	wait_for_replay($primary, $standby);
	wait_for_answer($standby);
	pause_replay($standby);
	return write_token($primary, q{UPDATE t SET v = 'new'});
}

my $token = stand_still();
my %hint = (strong => $strong, token => "/* tcs(session_token='$token') */");


##
## Within another statement
##

foreach my $asks (sort keys %hint)
{
	foreach my $way ('PREPARE', 'Parse')
	{
		my $c = session('-c tcs.max_wait=0');
		my $prepared = "$asks, by $way";

		if ($way eq 'PREPARE')
		{
			$c->ok_query("PREPARE p AS $hint{$asks} $read");
		}
		else
		{
			prepare_by_parse($c, 'p', "$hint{$asks} $read");
		}
		like(answers($c->query('EXECUTE p')), $refused, "$prepared: EXECUTE");
		foreach my $sql (
			"DO 'DECLARE r text; BEGIN EXECUTE ''EXECUTE p'' INTO r; RAISE NOTICE ''read %'', r; END'",
			"SELECT run('EXECUTE p')", "SELECT loop('EXECUTE p')", 'SELECT in_sql()', "CALL call('EXECUTE p')",
			"SELECT run('EXPLAIN ANALYZE EXECUTE p')", "BEGIN; SELECT cursor('EXECUTE p'); FETCH c",
			"SELECT set_config('tcs.read_level', 'read_your_writes', true), run('EXECUTE p')",
			"/* tcs(eventual) */ SELECT run('EXECUTE p')", "PREPARE o AS SELECT run('EXECUTE p'); EXECUTE o")
		{
			is(first_error($c->query($sql)), '55000', "$prepared: $sql");
			$c->query('ROLLBACK; DEALLOCATE o');
		}
		is(first_error($c->query("SELECT run('CREATE TABLE made AS EXECUTE p')")), '25006', '... what a standby refuses anyway');
		like(bound($c, 'p'), $refused, '... and bound behind all that');
		is(scalar(grep { $_->{M} =~ /read/ } $c->notices), 0, '... nothing was read');
		$c->disconnect;
	}
}

{
	my $c = session('-c tcs.max_wait=0');

	prepare_by_parse($c, 'one', "$strong SELECT 1");
	is(answers($c->query(q{SELECT run('EXECUTE one')})), '1', 'what reads nothing is served within a function');
	is(bound($c, 'one'), '1', '... and bound with the plan of that');
	prepare_by_parse($c, 'weak', "/* tcs(eventual) */ $read");
	is(answers($c->query(q{/* tcs(eventual) */ SELECT run('EXECUTE weak')})), 'old', 'a hint that asks for less');
	prepare_by_parse($c, 'wait', "/* tcs(max_wait=0) */ $read");
	is(answers($c->query(q{SELECT run('EXECUTE wait')})), 'old', '... or for nothing of the read');

	prepare_by_parse($c, 'folding', "$strong SELECT folded()");
	is(answers($c->query(qq{SELECT run('$_ EXECUTE folding')})), '55000', "planning that reads: $_ EXECUTE")
	  foreach ('EXPLAIN (VERBOSE)', '');
	is(answers($c->query(q{SELECT run('EXPLAIN EXECUTE one')})) =~ /^Result/, 1, 'EXPLAIN that reads nothing');

	# utility statements can be prepared by the protocol alone
	prepare_by_parse($c, 'called', "$strong CALL nothing()");
	like(answers($c->query('EXECUTE called')), $refused, 'a procedure, prepared: EXECUTE');
	is(answers($c->query(q{SELECT run('EXECUTE called')})), '55000', '... within a function');
	prepare_by_parse($c, 'p', "$strong $read");
	prepare_by_parse($c, 'around', 'EXECUTE p');
	is(answers($c->query('EXECUTE around')), '55000', 'EXECUTE of an EXECUTE');

	# what the text of a function says is nobody's hint
	is(answers($c->query(qq{SELECT run('$strong $read')})), 'old', 'a hint in a function is not read');
	is(answers($c->query(q{SELECT run('/* tcs(nonsense) */ SELECT v FROM t')})), 'old', '... nor one that is malformed');
	$c->disconnect;
}


##
## What the plan keeps
##

foreach my $sql ('EXPLAIN EXECUTE p', 'EXPLAIN ANALYZE EXECUTE p', 'EXECUTE p', q{SELECT run('EXPLAIN EXECUTE p')},
	q{/* tcs(eventual) */ EXECUTE p}, qq{$strong SELECT run('EXECUTE p')})
{
	my $c = session();

	resume_replay($standby);
	wait_for_replay($primary, $standby);
	prepare_by_parse($c, 'p', "$strong $read");
	is(first_error($c->query($sql)), '00000', "replay goes on: $sql");
	stand_still();
	$c->ok_query('SET tcs.max_wait = 0');
	like(bound($c, 'p'), $refused, '... and bound behind it with its plan, replay standing still');
	is(answers($c->query(q{SELECT run('EXECUTE p')})), '55000', '... and within a function');
	$c->ok_query('SET tcs.hints = off');
	is(bound($c, 'p'), 'old', '... with tcs.hints = off');
	$c->disconnect;
}

{
	my $c = session();

	resume_replay($standby);
	$c->ok_query("PREPARE p AS $strong $read");
	is(answers($c->query(qq{$strong SELECT run('EXECUTE p')})), 'new', 'served if its caller was granted as much');
	$c->ok_query('SET tcs.read_level = strong');
	is(answers($c->query(q{SELECT run('EXECUTE p')})), 'new', '... by the level of the session') foreach (1, 2);
	$c->disconnect;
}

done_testing();
