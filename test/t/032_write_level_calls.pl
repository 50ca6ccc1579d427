# test/t/032_write_level_calls.pl
#
# CALL and DO make several transactions.  What a hint asks for holds for all of
# their commits, and for nothing after them; so does a rule for the writes of a
# procedure.  The counters tell at which level each was committed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $watch = TcsWire->new($primary);
my $writer = TcsWire->new($primary);
my $insert = 'INSERT INTO t VALUES (-1)';

$watch->ok_query('CREATE TABLE t (v int)');
set_quorum($primary, 'ANY 1 (standby1)', 1);

# The counters tell at which level each was committed.
sub commits_at
{
	my ($level) = @_;

	return $watch->ok_query("SELECT nullif(commits, 0) FROM tcs.stat_writes WHERE write_level = '$level'");
}

sub forget_commits
{
	$watch->ok_query('SELECT tcs.stat_writes_reset()');
	return;
}

sub committed_at
{
	my ($sql) = @_;

	forget_commits();
	(($writer->query($_))[-1]{state} eq '00000') || note("failed: $_") foreach ref $sql ? @$sql : $sql;
	return join(', ', map { my $n = commits_at($_); $n ne '' ? "$_: $n" : () } qw(eventual session));
}

$writer->ok_query('RESET tcs.write_level');
{
	my $hint = '/* tcs(write_level=session) */';
	my $three = 'INSERT INTO t VALUES (-2); COMMIT; INSERT INTO t VALUES (-2); COMMIT; INSERT INTO t VALUES (-2);';

	$watch->ok_query("CREATE PROCEDURE three() LANGUAGE plpgsql AS 'BEGIN $three END'");
	$watch->ok_query("CREATE PROCEDURE fails() LANGUAGE plpgsql AS 'BEGIN $three COMMIT; RAISE division_by_zero; END'");
	$watch->ok_query("CREATE PROCEDURE around() LANGUAGE plpgsql AS 'BEGIN $three CALL three(); INSERT INTO t VALUES (-2); COMMIT; INSERT INTO t VALUES (-2); END'");

	foreach (
		[ 'CALL', 'CALL three()', 3 ],
		[ 'CALL that fails at its end', 'CALL fails()', 3 ],
		[ 'CALL within CALL', 'CALL around()', 6 ],
		[ 'CALL within DO', "DO 'BEGIN CALL three(); COMMIT; CALL three(); END'", 6 ],
		[ 'DO', "DO 'BEGIN $three END'", 3 ],
		[ 'DO that begins with ROLLBACK', "DO 'BEGIN ROLLBACK; $three END'", 3 ],
		[ 'DO that rolls back in between',
			"DO 'BEGIN INSERT INTO t VALUES (-2); ROLLBACK AND CHAIN; INSERT INTO t VALUES (-2); COMMIT AND CHAIN; INSERT INTO t VALUES (-2); END'", 2 ],
		[ 'DO with a block that catches',
			"DO 'BEGIN COMMIT; BEGIN INSERT INTO t VALUES (-2); RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN NULL; END; $three END'", 3 ],
		[ 'DO with a caught COMMIT',
			"DO 'BEGIN COMMIT; BEGIN COMMIT; EXCEPTION WHEN OTHERS THEN INSERT INTO t VALUES (-2); END; $three END'", 3 ],
		[ 'DO that asks for less',
			"DO 'BEGIN COMMIT; SET LOCAL tcs.write_level = eventual; $three END'", 3, 'eventual: 1' ])
	{
		my ($name, $sql, $commits, $without) = @$_;

		is(committed_at([ "$hint $sql", $insert ]), "session: $commits", "a hint of $name, and nothing after it");
		is(committed_at([ "$hint SELECT 1", $sql ]), $without // '', '... nor one before it');
	}

	$writer->ok_query('SET tcs.write_level = session');
	is(committed_at([ '/* tcs(write_level=eventual) */ CALL around()', $insert ]),
		'eventual: 6, session: 1', 'a hint that asks for less');
	is( committed_at(
			[ "/* tcs(write_level=eventual) */ DO 'BEGIN $three SET LOCAL tcs.write_level = session; $three END'", $insert ]),
		'eventual: 4, session: 2', '... which SET LOCAL within it takes back for one transaction');
	is( committed_at([ '/* tcs(write_level=eventual) */ CALL three()', 'CALL three()' ]),
		'eventual: 3, session: 3', '... and the next is not concerned');
	$writer->ok_query('RESET tcs.write_level');

	forget_commits();
	$writer->extended("$hint CALL three()")->sync->results;
	is(commits_at('session'), '3', 'a hint of CALL in the extended protocol');

	# Newer servers take a pipeline for one transaction, which CALL must not end.
  SKIP:
	{
		my ($in_pipeline) = reverse $writer->extended($insert)->extended('CALL three()')->sync->results;

		skip 'no COMMIT in a pipeline on this server', 3 if $in_pipeline->{state} eq '2D000';
		is($in_pipeline->{state}, '00000', 'CALL commits in a pipeline');
		forget_commits();
		$writer->extended("$hint $insert")->extended('CALL three()')->sync->results;
		is(commits_at('session'), '1', 'a hint of an earlier statement in the pipeline ends with its transaction');
		forget_commits();
		$writer->extended($insert)->extended("$hint CALL three()")->sync->results;
		is(commits_at('session'), '3', '... behind another statement');
	}

	# the hint of a prepared statement, which CALL, DO and triggers can run
	$watch->ok_query(q{CREATE TABLE fires (v int);
		CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'EXECUTE p'; RETURN NULL; END$$;
		CREATE TRIGGER fires AFTER INSERT ON fires FOR EACH ROW EXECUTE FUNCTION fires();
		CREATE TABLE late (v int);
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION fires()});
	foreach my $mode ('force_generic_plan', 'force_custom_plan')
	{
		my $run = q{EXECUTE 'EXECUTE p';};

		$writer->ok_query("DEALLOCATE ALL; SET plan_cache_mode = $mode; PREPARE p AS $hint $insert");
		is(committed_at([ $_, $insert ]), 'session: 1', "a hint of a prepared statement, $mode: $_")
		  foreach ('EXECUTE p', "DO \$\$BEGIN $run END\$\$", "DO \$\$BEGIN $run COMMIT; INSERT INTO t VALUES (-2); END\$\$",
			'INSERT INTO fires VALUES (1)', 'INSERT INTO late VALUES (1)', 'BEGIN; INSERT INTO late VALUES (1); COMMIT');
		$writer->parse('q', "$hint $insert")->sync->results;
		$writer->ok_query('EXPLAIN EXECUTE q');
		forget_commits();
		$writer->bind('', 'q')->execute('')->sync->results;
		is(commits_at('session'), '1', '... and bound with the plan of EXPLAIN');
		$writer->ok_query("PREPARE less AS /* tcs(write_level=eventual) */ $insert; SET tcs.write_level = session");
		is(committed_at("DO \$\$BEGIN EXECUTE 'EXECUTE less'; END\$\$"), 'session: 1', '... one that asks for less');
		$writer->ok_query('RESET tcs.write_level');
	}
	$writer->ok_query('RESET plan_cache_mode');

	# a rule of the procedure, no matter who calls it
	$watch->ok_query(q{SELECT tcs.set_rule(function => 'three()', level => 'session', operation => 'write')});
	is(committed_at([ 'CALL three()', $insert ]), 'session: 3', 'a rule of a procedure');
	is(committed_at('CALL around()'), 'session: 3', '... that another one calls');
	is(committed_at('/* tcs(write_level=eventual) */ CALL around()'),
		'eventual: 3, session: 3', '... with a hint that asks for less');
	$watch->ok_query('TRUNCATE tcs.rule');
}

$_->disconnect foreach ($watch, $writer);
done_testing();
