# test/t/400_snapshot_level.pl
#
# Level "snapshot": session freshness at the start of the transaction, and one
# snapshot for all its statements. Between two reads of one transaction, or of one
# statement, the test commits a change; level "session" shows it, which is the
# proof that it could be seen, and "snapshot" must not. Standbys that lag,
# redirects and writes are in 405.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsSnapshots;
use TcsWire;

snapshot_nodes();


##
## BEGIN and the isolation level
##

foreach my $node ($primary, $standby)
{
	my $name = $node->name;
	my $c = snapshot_client($node);
	my $show = 'SHOW transaction_isolation';

	foreach my $begin (
		'BEGIN', 'START TRANSACTION', 'BEGIN READ ONLY',
		'BEGIN ISOLATION LEVEL REPEATABLE READ')
	{
		is(answers(($c->query("$begin; $show; COMMIT"))[1]),
			'repeatable read', "$name: $begin");
	}
	is(last_answer($c->extended('BEGIN')->sync->results), '', "$name: BEGIN of the extended protocol");
	is($c->ok_query($show), 'repeatable read', '... too');
	is(answers($c->query('COMMIT AND CHAIN; SHOW transaction_isolation; COMMIT')),
		' / repeatable read / ', "$name: COMMIT AND CHAIN");
	is($c->ok_query($show), 'read committed', "$name: it ends with the transaction");

	foreach my $begin (
		'BEGIN ISOLATION LEVEL READ COMMITTED',
		'START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED')
	{
		my ($result) = $c->query($begin);

		is($result->{state}, '22023', "$name: $begin is refused");
		like($result->{error}{H}, qr/Leave out the isolation level/, '... with a hint');
		is($c->status, 'I', '... and begins nothing');
	}
	foreach my $set (
		'SET TRANSACTION ISOLATION LEVEL READ COMMITTED',
		q{SET transaction_isolation = 'read committed'},
		q{SET LOCAL transaction_isolation = 'read uncommitted'})
	{
		foreach my $begin ('BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ')
		{
			is(answers($c->query("$begin; $set; SELECT 1")), ' / 22023', "$name: $begin; $set");
			$c->query('ROLLBACK');
		}
		is(answers($c->query("BEGIN; SELECT v FROM t; $set")),
			" / $value / 25001", '... after a query it is core that refuses');
		$c->query('ROLLBACK');
	}
	is( answers(
			$c->query(
				q{BEGIN; SELECT set_config('transaction_isolation', 'read committed', true)})),
		' / 25001',
		"$name: set_config()");
	$c->query('ROLLBACK');
	is(answers($c->query('BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t; COMMIT')),
		" /  / $value / ", "$name: what is not weaker is let through");
	$c->ok_query('SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED');
	is(answers(($c->query("BEGIN; $show; COMMIT"))[1]),
		'repeatable read', "$name: a default is no explicit isolation level");

	# What other levels do is not touched.
	my $session = snapshot_client($node, 'session');

	is(answers(($session->query("BEGIN ISOLATION LEVEL READ COMMITTED; $show; COMMIT"))[1]),
		'read committed', "$name: level session");
	is(answers(($session->query("BEGIN; SET LOCAL tcs.read_level = 'snapshot'; $show; SELECT v FROM t; COMMIT"))[2, 3]),
		"repeatable read / $value", "$name: SET LOCAL before the first query");
	is(answers(($session->query("BEGIN; $show; COMMIT"))[1]), 'read committed', '... is local');
	$session->ok_query(q{SELECT set_config('tcs.read_level', 'snapshot', false)});
	is(answers(($session->query("BEGIN; $show; COMMIT"))[1]), 'repeatable read', "$name: set_config()");
	$_->disconnect foreach ($c, $session);
}

{
	my $c = snapshot_client($primary, 'snapshot', q{SET default_transaction_isolation = 'serializable'});

	is(answers(($c->query('BEGIN; SHOW transaction_isolation; SELECT v FROM t; COMMIT'))[1, 2]),
		"serializable / $value", 'SERIALIZABLE by default stays');
	is($c->ok_query('SELECT v FROM t'), $value, '... in autocommit, too');
	is(answers(($c->query('BEGIN ISOLATION LEVEL SERIALIZABLE; SHOW transaction_isolation; COMMIT'))[1]),
		'serializable', '... and asked for');
	$c->disconnect;
}


##
## One snapshot: statements of a transaction
##

my %kind = (
	'simple' => sub { $_[0]->simple('SELECT v FROM t') },
	'extended' => sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)->sync },
	'prepared, generic plan' => sub { $_[0]->bind('', 's')->execute('')->sync },
	'EXECUTE' => sub { $_[0]->simple('EXECUTE e') },
	'function' => sub { $_[0]->simple('SELECT one_read()') },
	'savepoint' => sub { $_[0]->simple('SAVEPOINT s; SELECT v FROM t') },
	'COPY' => sub { $_[0]->simple('COPY (SELECT v FROM t) TO STDOUT') },
	'EXPLAIN ANALYZE' => sub {
		$_[0]->simple('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT FROM c');
	},
	'CALL' => sub { $_[0]->simple('CALL p_two_reads(NULL)') },
	'protocol call' => sub { $_[0]->call($_[0]->{oid}) },);

sub value_shown
{
	my ($result) = @_;
	my $text = answers($result);

	return $result->{copy} =~ s/\s//gr if length $result->{copy};
	return $1 - 1 if $text =~ /actual rows=(\d+)/;
	return $1 if $text =~ /^(\d+) \g1$/;
	return $text;
}

foreach my $node ($primary, $standby)
{
	my $name = $node->name;

	foreach my $level ('session', 'snapshot')
	{
		my $same = $level eq 'snapshot';

		foreach my $kind (sort keys %kind)
		{
			my $c = snapshot_client($node, $level,
				q{SET plan_cache_mode = 'force_generic_plan'; PREPARE e AS SELECT v FROM t});

			$c->{oid} = $c->ok_query(q{SELECT 'one_read'::regproc::oid});
			$c->parse('s', 'SELECT v FROM t')->sync->results;
			$c->ok_query('BEGIN');
			my $first = value_shown(($kind{$kind}->($c)->results)[-1]);
			my $before = $value;

			bump($node);
			my $second = value_shown(($kind{$kind}->($c)->results)[-1]);

			is("$first $second", $before . ' ' . ($same ? $before : $value),
				"$name, $level, $kind: " . ($same ? 'one snapshot' : 'the change can be seen'));
			$c->query('ROLLBACK TO s; SELECT v FROM t') if $kind eq 'savepoint';
			is($c->ok_query('SELECT v FROM t'), $before, '... also after ROLLBACK TO')
			  if $kind eq 'savepoint' && $same;
			is(last_answer($c->query('COMMIT; SELECT v FROM t')), $value, '... and the next sees it')
			  if $same;
			$c->disconnect;
		}

		# cursors
		my $c = snapshot_client($node, $level);

		$c->ok_query('BEGIN; DECLARE a CURSOR FOR SELECT n FROM c ORDER BY n');
		my $rows = $value + 1;

		bump($node);
		is(answers(($c->query('FETCH ALL FROM a'))[0]) =~ tr/\n// + 1,
			$rows, "$name, $level: a cursor reads what it was declared with");
		is($c->ok_query('DECLARE b CURSOR FOR SELECT count(*) FROM c; FETCH b'),
			$same ? $rows : $rows + 1, '... another one');
		$c->ok_query('COMMIT');

		# A string of statements, and a pipeline.
		my ($before, @results) = commit_between($node, $c,
			sub { $_[0]->simple('SELECT v FROM t; SELECT pg_advisory_lock(7), pg_advisory_unlock(7); SELECT v FROM t') });

		is(answers(@results[ 0, 2 ]), "$before / " . ($same ? $before : $value),
			"$name, $level: a string of statements");
		is($c->ok_query('SELECT v FROM t'), $value, '... the next one sees it');

		foreach my $ending ('sync', 'another')
		{
			$before = $value;
			my ($first) = $c->extended('SELECT v FROM t')->ask->results(1);

			bump($node);
			my ($second) = $c->extended('SELECT v FROM t')->sync->results;

			is(answers($first, $second), "$before / " . ($same ? $before : $value),
				"$name, $level: a pipeline");
			is(answers($c->extended('SELECT v FROM t')->sync->results),
				$value, '... ends with Sync');
		}

		# One statement with volatile functions.
		foreach my $sql (
			'SELECT two_reads()',
			'CALL p_two_reads(NULL)',
			'DO $$BEGIN PERFORM tell(two_reads()); END$$',
			'COPY (SELECT two_reads()) TO STDOUT',
			'SELECT a.v || $$ $$ || split_part(two_reads(), $$ $$, 2) FROM t a')
		{
			($before, @results) = commit_between($node, $c, sub { $_[0]->simple($sql) });
			my $text =
				$sql =~ /^DO/ ? notice_of($c)
			  : $sql =~ /^COPY/ ? $results[0]{copy} =~ s/\n//r
			  : last_answer(@results);

			is($text, "$before " . ($same ? $before : $value), "$name, $level: $sql");
		}
		($before, @results) = commit_between($node, $c,
			sub { $_[0]->call($_[0]->ok_query(q{SELECT 'two_reads'::regproc::oid})) });
		is(last_answer(@results), "$before " . ($same ? $before : $value),
			"$name, $level: function call of the protocol");
		($before, @results) = commit_between($node, $c,
			sub { $_[0]->extended('SELECT two_reads() || $1', '')->sync });
		is(last_answer(@results), "$before " . ($same ? $before : $value),
			"$name, $level: extended protocol");
		$c->disconnect;
	}

	# Procedures that end their transaction.
	my $c = snapshot_client($node);
	my ($result) = $c->query('CALL p_commits(NULL)');

	is($result->{state}, '25001', "$name: a procedure cannot read after COMMIT");
	like($result->{error}{H}, qr/SET TRANSACTION ISOLATION LEVEL REPEATABLE READ/, '... with a hint');
	is(answers($c->query('DO $$BEGIN PERFORM one_read(); COMMIT; PERFORM one_read(); END$$')),
		'25001', '... nor a DO block');
	is(answers($c->query('CALL p_only_commits(NULL)')), $value, '... it may end with COMMIT');
	is(answers($c->query('CALL p_commits_rr(NULL)')),
		"then $value", '... or ask for REPEATABLE READ itself');
	is($c->ok_query('SELECT one_read()'), $value, '... and nothing is left of it');
	$c->disconnect;
}


##
## Level and token raised too late
##

foreach my $node ($primary, $standby)
{
	my $name = $node->name;
	my $c = snapshot_client($node, 'session');

	foreach my $set (
		q{SET tcs.read_level = 'snapshot'},
		q{SET LOCAL tcs.read_level = 'snapshot'},
		q{SELECT set_config('tcs.read_level', 'snapshot', true)})
	{
		my ($result) = ($c->query("BEGIN; SELECT v FROM t; $set; SELECT v FROM t"))[-1];

		is($result->{state}, '25001', "$name: $set after a query");
		like($result->{error}{H}, qr/in force for the next/, '... with a hint');
		$c->query('ROLLBACK');
		is(answers(($c->query("SELECT v FROM t; $set; SELECT v FROM t"))[3] // { state => 'none' }),
			'none', '... in a string of statements');
		is(answers(($c->query("SELECT v FROM t; $set; SELECT v FROM t"))[2]), '25001', '... it is refused, too');
		is(answers(($c->query("BEGIN; SAVEPOINT s; $set; SELECT v FROM t"))[-1]),
			'25001', '... in a savepoint')
		  if $set =~ /LOCAL/;
		$c->query('ROLLBACK');
	}
	$c->extended('SELECT v FROM t')->ask->results(1);
	is(answers($c->extended(q{SET tcs.read_level = 'snapshot'})->extended('SELECT v FROM t')->sync->results),
		' / 25001', "$name: in a pipeline");
	is($c->ok_query('SHOW tcs.read_level'), 'session', '... and it is undone with its transaction');

	# Committed, it is in force for the next one.
	$c->ok_query(q{BEGIN; SELECT v FROM t; SET tcs.read_level = 'snapshot'; COMMIT});
	is(answers(($c->query('BEGIN; SHOW transaction_isolation; COMMIT'))[1]),
		'repeatable read', "$name: in force for the next transaction");

	# A wait in between does not make the transaction a new one.
	my $token = bump($node);

	foreach my $wait ("CALL tcs.wait_for('$token', '60 s')",
		"SET LOCAL tcs.session_token = '$token'")
	{
		my $late = snapshot_client($node, 'session');

		$late->ok_query(q{BEGIN; SELECT v FROM t; SET LOCAL tcs.read_level = 'snapshot'});
		bump($node);
		is(answers(($late->query("$wait; SELECT v FROM t"))[-1]),
			'25001', "$name: $wait does not hide that there was a read before");
		$late->disconnect;
	}

	# REPEATABLE READ has one snapshot already.
	$c->ok_query(q{SET tcs.read_level = 'session'});
	my $before = $value;

	is(answers($c->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t; SET LOCAL tcs.read_level = 'snapshot'; SELECT v FROM t})),
		" / $value /  / $value", "$name: raised in a REPEATABLE READ transaction");
	$token = bump($node);
	my ($result) = ($c->query("SET LOCAL tcs.session_token = '$token'; SELECT v FROM t"))[-1];

	is($result->{state}, '25001', '... and a token that its snapshot does not have');
	$c->query('ROLLBACK');

	$c->ok_query(q{SET tcs.read_level = 'snapshot'});
	foreach my $set ('SET', 'SET LOCAL')
	{
		$before = $value;
		is(answers($c->query('BEGIN; SELECT v FROM t')), " / $before", "$name: a transaction");
		$token = bump($node);
		($result) = ($c->query("$set tcs.session_token = '$token'; SELECT v FROM t"))[-1];
		is($result->{state}, '25001', "... $set of a token beyond its snapshot is refused");
		like($result->{error}{H}, qr/in force for the next/, '... with a hint');
		$c->query('ROLLBACK');
		$c->ok_query("BEGIN; SELECT v FROM t; $set tcs.session_token = '$token'; COMMIT");
		is(answers($c->query('BEGIN; SELECT v FROM t; COMMIT')), " / $value / ", '... the next one has it');
	}
	# as a savepoint ends, so does what it asked for
	$before = $value;
	$c->ok_query('BEGIN; SELECT v FROM t; SAVEPOINT s');
	$token = bump($node);
	is(answers(($c->query("SET LOCAL tcs.session_token = '$token'; SELECT v FROM t"))[-1]),
		'25001', "$name: in a savepoint");
	is(answers(($c->query('ROLLBACK TO s; SELECT v FROM t; COMMIT'))[1]), $before, '... which is left');
	$c->disconnect;
}

done_testing();
