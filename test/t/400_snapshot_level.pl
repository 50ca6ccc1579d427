# test/t/400_snapshot_level.pl
#
# Level "snapshot": session freshness at the start of the transaction, and one
# snapshot for all its statements.  Between two reads of one transaction, or of
# one statement, the test commits a change; level "session" shows it, which is
# the proof that it could be seen, and "snapshot" must not.

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

$primary->safe_psql(
	'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE TABLE c (n int);
INSERT INTO c VALUES (0);
CREATE TABLE other (v int);
CREATE TABLE plain (v int);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$;
-- two reads; the test can do something between them while it holds the lock
CREATE FUNCTION two_reads() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a text; b text;
BEGIN
	a := one_read();
	PERFORM pg_advisory_lock(7), pg_advisory_unlock(7);
	b := (SELECT v FROM t);
	RETURN a || ' ' || b;
END$$;
CREATE PROCEDURE p_two_reads(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := two_reads(); END$$;
-- a standby's only way to show what a DO block has read
CREATE FUNCTION tell(text) RETURNS void LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RAISE NOTICE '%', $1; END$$;
CREATE PROCEDURE p_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; r := r || ' ' || one_read(); END$$;
CREATE PROCEDURE p_commits_rr(INOUT r text) LANGUAGE plpgsql AS $$BEGIN
	r := 'then';
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
	r := r || ' ' || one_read();
END$$;
CREATE PROCEDURE p_only_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; END$$;
CREATE MATERIALIZED VIEW mv AS SELECT v FROM t;
});
my $value = 0;
my $writer = TcsWire->new($primary);
my $snapshot = '-c tcs.read_level=snapshot';

wait_for_replay($primary, $standby);
wait_for_answer($standby);

# A commit that every reader can see.  Returns the token for it.
sub bump
{
	my ($node) = @_;

	$value++;
	$writer->ok_query("UPDATE t SET v = $value; INSERT INTO c VALUES ($value)");
	wait_for_replay($primary, $standby)
	  if defined $node && $node == $standby;
	return $writer->parameter('tcs.session_token');
}

sub snapshot_client
{
	my ($node, $level, $set) = @_;
	my $client = TcsWire->new($node, options => '-c tcs.read_level=' . ($level // 'snapshot'));

	$client->ok_query($set) if defined $set;
	return $client;
}

sub notice_of
{
	my ($client) = @_;
	my @notices = grep { $_->{S} eq 'NOTICE' } $client->notices;

	return $notices[-1]{M};
}

# Sends what $send sends, which has read once when it waits for the lock; then a
# commit; then lets it go on.  Returns the results and the value before.
sub commit_between
{
	my ($node, $client, $send) = @_;
	my $holder = TcsWire->new($node, options => '-c tcs.read_level=eventual');
	my $before = $value;

	$holder->ok_query('SELECT pg_advisory_lock(7)');
	$send->($client);
	$client->flush;
	$holder->poll('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = '
		  . $client->pid)
	  or die 'it does not wait';
	bump($node);
	$holder->ok_query('SELECT pg_advisory_unlock(7)');
	my @results = $client->results;

	$holder->disconnect;
	return ($before, @results);
}


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


##
## Freshness on a standby that lags
##

my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# What waits until replay goes on, and what it answers then.
my @waiting = (
	[ 'BEGIN', 'BEGIN; SELECT v FROM t; COMMIT', sub { " / $value / " } ],
	[ 'START TRANSACTION', 'START TRANSACTION READ ONLY; SELECT one_read(); COMMIT', sub { " / $value / " } ],
	[ 'one statement', 'SELECT v FROM t', sub { "$value" } ],
	[ 'one statement with a lock that replay needs', 'SELECT v FROM t', sub { "$value" }, 'ALTER TABLE t ALTER v SET DEFAULT 1' ],
	[ 'COPY', 'COPY (SELECT v FROM t) TO STDOUT', sub { '' } ],
	[ 'CALL', 'CALL p_two_reads(NULL)', sub { "$value $value" } ],
	[ 'a string of statements', 'SELECT v FROM t; SELECT v FROM t', sub { "$value / $value" } ],
	[ 'the first query of a chain', 'COMMIT AND CHAIN; SELECT v FROM t; COMMIT', sub { " / $value / " }, undef, 'BEGIN' ],);

foreach my $case (@waiting)
{
	my ($what, $sql, $expected, $also, $prepare) = @$case;
	my $c = snapshot_client($standby, 'snapshot', q{SET tcs.max_wait = '60s'});
	my $held;

	$look->stop_replay;
	my $old = $look->ok_query('SELECT v FROM t');

	$writer->ok_query($also) if $also;
	my $token = bump();

	$c->ok_query("SET tcs.session_token = '$token'") if !$prepare;
	# the token is set in the transaction that ends, and in force afterwards
	$c->ok_query("$prepare; SELECT v FROM t; SET tcs.session_token = '$token'") if $prepare;
	my @results = $look->release($c, $sql, \$held);

	ok($held, "$what waits");
	is(answers(@results), $expected->(), '... and sees what the token names');
	isnt($old, $value, '... which it did not have');
	wait_for_replay($primary, $standby);
	$c->disconnect;
}

# In time it does not come: BEGIN is no error, its first query is.
{
	$look->stop_replay;
	my $before = $look->ok_query('SELECT v FROM t');
	my $token = bump();
	my $c = snapshot_client($standby, 'snapshot', "SET tcs.session_token = '$token'; SET tcs.max_wait = 20");

	is(answers($c->query('BEGIN')), '', 'BEGIN does not fail');
	is(answers($c->query('SELECT v FROM t')), 'TC001', '... its first query does');
	is($c->status, 'E', '... and with it the transaction');
	$c->query('ROLLBACK');
	is(answers($c->query('SELECT v FROM t')), 'TC001', 'a single statement fails');
	is(answers($c->query('SELECT v FROM t; SELECT 1')), 'TC001', '... a string of them');
	is(answers($c->extended('SELECT v FROM t')->sync->results), 'TC001', '... extended protocol');

	# fallback: told, and still one snapshot
	$c->ok_query(q{SET tcs.fallback = 'eventual, error'});
	is(answers($c->query('SELECT v FROM t')), $before, 'fallback: served below the level');
	like(($c->notices)[-1]{M}, qr/served at level "eventual" instead of "snapshot"/, '... and told so');
	is(answers($c->query('BEGIN; SELECT v FROM t')), " / $before", '... in a transaction');
	$look->go_on;
	wait_for_replay($primary, $standby);
	is(answers($c->query('SELECT v FROM t')), $before, '... whose snapshot remains the one');
	is(answers($c->query('COMMIT; SELECT v FROM t')), " / $value", '... until its end');
	my $session = snapshot_client($standby, 'session', q{SET tcs.fallback = 'session, error'});
	my $late = q{BEGIN; SELECT v FROM t; SET LOCAL tcs.read_level = 'snapshot'; SELECT v FROM t};

	is(answers(($session->query($late))[-1]),
		'25001', 'fallback: for a level that came too late, session is no weaker one');
	$session->query(q{ROLLBACK; SET tcs.fallback = 'eventual, error'});
	is(answers(($session->query($late))[-1]), $value, '... but eventual is');
	like(($session->notices)[-1]{M}, qr/served at level "eventual" instead of "snapshot"/, '... is told');
	$_->disconnect foreach ($c, $session);
	is( $look->ok_query(
			q{SELECT downgraded > 0 FROM tcs.stat_reads WHERE level = 'snapshot'}),
		't',
		'... and counted');
}


##
## Redirect
##

redirect_to($primary);
wait_for_replay($primary, $standby);
{
	$look->stop_replay;
	my $old = $look->ok_query('SELECT v FROM t');
	my $token = bump();
	my $c = snapshot_client($standby, 'snapshot',
		"SET tcs.session_token = '$token'; SET tcs.redirect_after = 0; SET tcs.max_wait = '300ms'");
	my $before = $value;

	isnt($old, $before, 'the standby lags');
	is(answers($c->query('BEGIN; SELECT v FROM t')), " / $before", 'redirect: the first statement');
	bump();
	is(answers($c->query('SELECT v FROM t; SELECT one_read(); COMMIT')),
		"$before / $before / ", '... and all others see its snapshot');
	is($c->ok_query('SELECT outcome FROM tcs.last_read()'), 'redirected', '... on the primary');
	is($c->ok_query('SELECT v FROM t'), $value, 'a single statement is redirected');

	my ($then, @results) = do
	{
		my $holder = TcsWire->new($primary, options => '-c tcs.read_level=eventual');
		my $now = $value;

		$holder->ok_query('SELECT pg_advisory_lock(7)');
		$c->simple('SELECT two_reads() FROM t')->flush;
		$holder->poll('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted')
		  or die 'it does not wait';
		bump();
		$holder->ok_query('SELECT pg_advisory_unlock(7)');
		my @got = $c->results;

		$holder->disconnect;
		($now, @got);
	};

	is(answers(@results), "$then $then", '... and is one snapshot');
	is($c->ok_query('SELECT outcome FROM tcs.last_read()'), 'redirected', '... of the primary');
	is(answers($c->query('SELECT v FROM t; SELECT v FROM t')),
		'TC001', 'a string of statements without BEGIN is not redirected, and not split');

	# The first statement of a pipeline does not know that it is not the only one.
	my ($first) = $c->extended('SELECT v FROM t')->ask->results(1);

	is(answers($first), $value, 'the first of a pipeline is redirected');
	$look->go_on;
	bump($standby);
	is(answers($c->extended('SELECT v FROM t')->sync->results),
		'25001', '... and none that follows it shows another snapshot');
	is(answers($c->query('BEGIN; SELECT v FROM t; COMMIT')), " / $value / ", 'replayed, it is read here');
	is($c->ok_query('SELECT outcome FROM tcs.last_read()'), 'served at once', '... at once');
	$c->disconnect;
}


##
## Writes on the primary
##

{
	my $c = snapshot_client($primary);

	is(($c->query('INSERT INTO plain VALUES (1), (2)'))[0]{tag}, 'INSERT 0 2', 'INSERT');
	is(answers($c->query('INSERT INTO plain SELECT v FROM t RETURNING v')), $value, 'INSERT SELECT RETURNING');
	is(answers($c->query('BEGIN; UPDATE plain SET v = v + 1; SELECT count(*) FROM plain; COMMIT')),
		' /  / 3 / ', 'a transaction sees what it has written itself');
	isnt($c->parameter('tcs.session_token'), '', '... and gets a token');
	is(answers($c->query('SELECT one_read(); INSERT INTO plain VALUES (3); SELECT count(*) FROM plain')),
		"$value /  / 4", 'a string of statements');
	is(answers($c->extended('INSERT INTO plain VALUES ($1)', 4)->extended('SELECT count(*) FROM plain')->sync->results),
		' / 5', 'a pipeline');
	is(answers($c->query('DELETE FROM plain WHERE v = 4; SELECT v FROM t FOR UPDATE')),
		" / $value", 'DELETE, FOR UPDATE');
	is(answers($c->query('WITH w AS (INSERT INTO plain VALUES (9) RETURNING v) SELECT v FROM w')),
		'9', 'WITH');

	# concurrent changes, as in REPEATABLE READ
	$c->ok_query('BEGIN; SELECT v FROM t');
	bump();
	is(answers($c->query('UPDATE t SET v = v + 1')), '40001', 'a concurrent change is a serialization failure');
	$c->query('ROLLBACK');
	is(($c->query('UPDATE t SET v = v'))[0]{tag}, 'UPDATE 1', '... without one it is not');

	# statements that read inside
	foreach my $sql (
		'CREATE TABLE copy AS SELECT * FROM t',
		'SELECT * INTO copy2 FROM t',
		'ALTER TABLE other ADD COLUMN id int',
		'ALTER TABLE other ADD FOREIGN KEY (id) REFERENCES t',
		'INSERT INTO other (id) VALUES (1)',
		'ALTER TABLE other ADD CHECK (id > 0)',
		'CREATE INDEX ON other (id)',
		'CREATE INDEX CONCURRENTLY ON other (v)',
		'CREATE UNIQUE INDEX ON mv (v)',
		'REFRESH MATERIALIZED VIEW mv',
		'REFRESH MATERIALIZED VIEW CONCURRENTLY mv',
		'VACUUM t',
		'ANALYZE t',
		'CLUSTER t USING t_pkey',
		'REINDEX TABLE t',
		'CREATE TEMP TABLE tmp (v int) ON COMMIT DROP',
		'TRUNCATE plain')
	{
		is(answers($c->query($sql)), '', $sql);
	}
	is($c->ok_query('SELECT v FROM copy'), $value, 'CREATE TABLE AS has read the present');
	is($c->ok_query('SELECT v FROM mv'), $value, '... so has REFRESH');
	is( answers(
			$c->query(
				'BEGIN; CREATE TEMP TABLE tmp (v int); INSERT INTO tmp SELECT v FROM t; '
				  . 'SELECT v FROM tmp; ALTER TABLE tmp ADD w int; DROP TABLE tmp; COMMIT')),
		" /  /  / $value /  /  / ",
		'temporary tables');
	is(answers($c->query('CREATE TEMP TABLE tmp AS SELECT v FROM t; SELECT v FROM tmp')),
		" / $value", '... in a string');
	is(answers($c->query(q{BEGIN; INSERT INTO plain VALUES (1); PREPARE TRANSACTION 'p'})), ' /  / ', 'two phases');
	is(answers($c->query(q{COMMIT PREPARED 'p'})), '', '... the second');
	is($c->ok_query('SELECT v FROM plain'), '1', '... is seen');
	$c->disconnect;
}


##
## Two tables, while others write both
##

$primary->safe_psql(
	'postgres', q{
CREATE TABLE a (v int);
CREATE TABLE b (v int);
CREATE TABLE stop ();
INSERT INTO a VALUES (0);
INSERT INTO b VALUES (0)});
wait_for_replay($primary, $standby);
{
	my @readers = map { snapshot_client($_) } ($primary, $standby);
	my @writers = map
	{
		start_read($primary,
			"SET lock_timeout = 0; DO \$\$ BEGIN LOOP UPDATE a SET v = v + 1; UPDATE b SET v = v - 1; COMMIT; EXIT WHEN EXISTS (SELECT FROM stop); END LOOP; END \$\$",
			level => 'eventual')
	} 1 .. 2;
	my ($rounds, $torn, $errors, %seen) = (0, 0, 0);

	# they write until there was enough to see, on the standby as well
	while ($rounds < 200 || ($rounds < 20000 && grep { keys %{ $seen{$_} // {} } < 2 } (0, 1)))
	{
		foreach my $i (0, 1)
		{
			my $c = $readers[$i];
			my @results =
			    $rounds % 3 == 0 ? $c->query('BEGIN; SELECT v FROM a; SELECT v FROM b; COMMIT')
			  : $rounds % 3 == 1 ? (undef, $c->query('SELECT v FROM a; SELECT v FROM b'))
			  :   (undef, $c->extended('SELECT v FROM a')->extended('SELECT v FROM b')->sync->results);
			my ($one, $two) = map { answers($_) } @results[ 1, 2 ];

			if ($one !~ /^-?\d+$/ || $two !~ /^-?\d+$/)
			{
				$errors++;
				next;
			}
			$torn++ if $one + $two != 0;
			$seen{$i}{$one} = 1;
		}
		$rounds++;
	}
	$primary->safe_psql('postgres', 'INSERT INTO stop DEFAULT VALUES');
	is(join(' ', map { (finish_read($_))[0] } @writers), '00000 00000', 'two writers');
	is($torn, 0, "$rounds rounds of reads of two tables, none torn");
	is($errors, 0, '... and none failed');
	foreach my $i (0, 1)
	{
		cmp_ok(scalar keys %{ $seen{$i} }, '>', 1, "... and there was something to see ($i)");
	}
	$_->disconnect foreach @readers;
}


##
## A weaker isolation level, named first
##

foreach my $node ($primary, $standby)
{
	foreach my $begin ('BEGIN ISOLATION LEVEL READ COMMITTED', 'BEGIN; SET TRANSACTION ISOLATION LEVEL READ COMMITTED')
	{
		my ($state, $err) = psql_err($node, "$begin; SET LOCAL tcs.read_level = snapshot; SELECT v FROM t");

		is($state, '22023', "$begin, then SET LOCAL, on " . $node->name);
		like($err, qr/HINT/, '... with a hint');
	}
	is(psql_err($node, 'BEGIN ISOLATION LEVEL READ COMMITTED; COMMIT; BEGIN; SET LOCAL tcs.read_level = snapshot; SELECT v FROM t'),
		'00000', '... and it is forgotten with its transaction');
}

done_testing();
