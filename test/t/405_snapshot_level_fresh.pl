# test/t/405_snapshot_level_fresh.pl
#
# Level "snapshot": how fresh it is on a standby that lags, where it is
# redirected, and what transactions that write get on the primary. Two tables that
# others write in one transaction are never seen apart (see TcsSnapshots.pm).

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsSnapshots;
use TcsTest;
use TcsWire;

snapshot_nodes();


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
	is($c->ok_query('SELECT outcome FROM tcs.last_read'), 'redirected', '... on the primary');
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
	is($c->ok_query('SELECT outcome FROM tcs.last_read'), 'redirected', '... of the primary');
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
	is($c->ok_query('SELECT outcome FROM tcs.last_read'), 'served', '... at once');
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
