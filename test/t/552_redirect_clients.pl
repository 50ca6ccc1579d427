# test/t/552_redirect_clients.pl
#
# What clients do while their reads are redirected: read slowly or not at all,
# cancel, time out, roll back, close, leave, mix cursors with other statements.
# Each time the statement ends with the right rows or with an error that says to
# retry; nothing is left running on the primary; the session goes on. A large
# result passes through the standby in little memory.
#
# Replay stands still all the time: rows that are "new" come from the primary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsFaults;
use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

my ($primary, $standby, $heir, $proxy, $token) = faulty_nodes();

# Two connections that only look.
my $at_primary = TcsWire->new($primary);
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');


##
## Cancel, timeouts, sessions that end
##

subtest 'the session gives up' => sub {
	my $client = redirect_session($standby, $token, server => 'tcs_primary');

	start_endless($at_primary, $client);
	$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
	is((($client->results)[-1])->{state}, '57014', 'cancelled');
	ok(wait_for_remote($at_primary, 0, 'pg_sleep'), '... and so is the query on the primary');
	check_session_goes_on('cancelled', $client);

	$client->ok_query(q{SET statement_timeout = '1s'});
	is((state_and_message($client, $endless))[0], '57014', 'statement_timeout');
	ok(wait_for_remote($at_primary, 0, 'pg_sleep'), '... and the query on the primary has ended');
	$client->ok_query('RESET statement_timeout');
	check_session_goes_on('timed out', $client);

	# also with a query that says something all the time
	$client->ok_query("BEGIN; DECLARE c CURSOR FOR $large; FETCH 1 FROM c");
	ok(wait_for_remote($at_primary, 1, 'generate_series'), 'rows are waiting');
	$client->ok_query('ROLLBACK');
	ok(wait_for_remote($at_primary, 0, 'generate_series'), '... and do not after ROLLBACK');
	check_session_goes_on('ROLLBACK', $client);

	foreach my $how ('pg_terminate_backend', 'disconnect', 'DISCONNECT')
	{
		my $leaver = redirect_session($standby, $token, server => 'tcs_primary');

		if ($how eq 'pg_terminate_backend')
		{
			start_endless($at_primary, $leaver);
			$at_standby->ok_query("SELECT $how(" . $leaver->pid . ')');
			is((($leaver->results)[0])->{state}, '57P01', 'terminated');
		}
		elsif ($how eq 'disconnect')
		{
			$leaver->ok_query("BEGIN; DECLARE c CURSOR FOR $large; FETCH 1 FROM c");
			ok(wait_for_remote($at_primary, 1, 'generate_series'), 'rows are waiting');
			$leaver->disconnect;
		}
		else
		{
			$leaver->ok_query(q{SET client_connection_check_interval = '100ms'});
			start_endless($at_primary, $leaver);
			close($leaver->{socket});
		}
		ok(wait_for_remote($at_primary, 0, $_), "$how: nothing runs on the primary")
		  foreach ('pg_sleep', 'generate_series');
		ok(wait_for_connections($at_standby, 1), '... nor is there a connection but of the other session');
	}

	check_session_goes_on('after all that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## Slow clients
##

subtest 'a client that does not read' => sub {
	my $slow = redirect_session($standby, $token, server => 'tcs_primary');
	my $other = redirect_session($standby, $token, server => 'tcs_primary');

	$slow->simple($large)->flush;
	ok( $at_standby->poll(
			q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND pid = }
			  . $slow->pid),
		'the standby waits for its client');
	check_session_goes_on('meanwhile, another session', $other);
	ok(wait_for_remote($at_primary, 1, 'generate_series'), 'the primary waits, too');
	is(count_right(($slow->results)[-1]{rows}, 1), $many, 'all rows when the client reads');
	check_session_goes_on('after that', $slow);

	# one row at a time
	$slow->parse('', $large);
	$slow->bind('p', '');
	my $wrong = 0;

	foreach my $i (1 .. 300)
	{
		my ($result) = $slow->execute('p', 1)->ask->results(1);

		$wrong++ if !$result->{suspended} || count_right($result->{rows}, $i) ne '1';
	}
	is($wrong, 0, 'a portal that is read one row at a time');
	$slow->close_object('P', 'p')->sync;
	$slow->results;
	check_session_goes_on('closed half read', $slow);

	$slow->simple($large)->flush;
	$at_standby->poll(
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND pid = }
		  . $slow->pid);
	$at_standby->ok_query('SELECT pg_terminate_backend(' . $slow->pid . ')');
	ok(wait_for_remote($at_primary, 0, 'generate_series'), 'terminated while it writes: nothing runs on the primary');
	ok(wait_for_connections($at_standby, 1), '... and its connection is given back');
	$other->disconnect;
};


##
## Half read, and then something else
##

subtest 'half read' => sub {
	my $client = redirect_session($standby, $token, server => 'tcs_primary');
	my $pid = sub {
		$at_primary->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'tcs'});
		return described($at_primary, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'tcs'});
	};

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		my $begin = "BEGIN ISOLATION LEVEL $isolation; DECLARE c CURSOR FOR $large";
		my $four = sub {
			my ($name, $from) = @_;
			return count_right(($client->query("FETCH 4 FROM $name"))[0]{rows}, $from);
		};

		$client->ok_query($begin);
		is($four->('c', 1), 4, "$isolation: some rows");
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		$client->ok_query($begin);
		$four->('c', 1);
		$client->query('CLOSE c');
		is(described($client, $read), 'new', 'CLOSE, then another statement');
		is(described($client, $read), 'new', '... and one more');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		$client->ok_query($begin);
		is($four->('c', 1), 4, 'some rows');
		is(described($client, $read), 'new', '... another statement');
		is($four->('c', 5), 4, '... more rows');
		is(described($client, 'SELECT count(*) FROM t'), '1000', '... another statement');
		is($four->('c', 9), 4, '... more rows');
		is(count_right(($client->query('FETCH ALL FROM c'))[0]{rows}, 13),
			$many - 12, '... the rest');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		# three at the same time
		$client->ok_query($begin);
		$client->query("DECLARE d CURSOR FOR SELECT 0, id, v || repeat('x', 990) FROM t ORDER BY id;"
			  . "DECLARE e CURSOR FOR SELECT 0, g, v || repeat('x', 990) FROM t, generate_series(1, 3000) g WHERE id = 7");
		my $wrong = 0;

		foreach my $i (0 .. 20)
		{
			foreach my $name (qw(c d e))
			{
				$wrong++ if $four->($name, 4 * $i + 1) ne '4';
			}
		}
		is($wrong, 0, 'three cursors in turn');
		is(count_right(($client->query('FETCH ALL FROM d'))[0]{rows}, 85), 1000 - 84, 'the rest of one');
		is(count_right(($client->query('FETCH ALL FROM e'))[0]{rows}, 85), 3000 - 84, '... of another');
		$client->query('CLOSE c');
		is(described($client, $read), 'new', '... and without the third');
		$client->ok_query('COMMIT');

		# an error of another statement ends all
		$client->ok_query($begin);
		$four->('c', 1);
		is((state_and_message($client, 'SELECT 1 / (id - 1) FROM t WHERE id = 1'))[0], '22012', 'an error');
		is((state_and_message($client, 'FETCH 1 FROM c'))[0], '25P02', '... ends the transaction');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		# but not if there is a savepoint
		$client->ok_query($begin);
		$four->('c', 1);
		$client->query('SAVEPOINT s');
		is((state_and_message($client, 'SELECT 1 / (id - 1) FROM t WHERE id = 1'))[0], '22012', 'an error');
		$client->query('ROLLBACK TO s');
		is(described($client, $read), 'new', '... is undone with its savepoint');
		is($four->('c', 5), 4, '... and the cursor goes on');
		$client->query('SAVEPOINT s2');
		is((state_and_message($client, 'SELECT * FROM nowhere'))[0], '42P01', 'an error of this node');
		$client->query('ROLLBACK TO s2');
		is($four->('c', 9), 4, '... the same');
		$client->ok_query('COMMIT');
		check_session_goes_on('COMMIT', $client);

		# an error among the rows
		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . ' DECLARE c CURSOR FOR SELECT id, 1 / (id - 500), v FROM t ORDER BY id');
		is(scalar(@{ ($client->query('FETCH 100 FROM c'))[0]{rows} }), 100, 'some rows');
		is((state_and_message($client, 'FETCH ALL FROM c'))[0], '22012', '... and an error among them');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);
		ok(wait_for_connections($at_standby, 1), "$isolation: one connection");
	}

	# portals of one pipeline
	my ($p, $q, $one, $rest) =
	  $client->parse('', $large)->bind('p', '')->execute('p', 4)
	  ->extended($read)->parse('', 'SELECT count(*) FROM t')->bind('q', '')->execute('q')
	  ->execute('p')->sync->results;

	is(count_right($p->{rows}, 1), 4, 'a pipeline: some rows');
	is(TcsWire::describe_result($q), 'new', '... another statement');
	is(TcsWire::describe_result($one), '1000', '... and one more');
	is(count_right($rest->{rows}, 5), $many - 4, '... the rest');

	# one that outlives its transaction
	$client->ok_query("BEGIN; DECLARE c CURSOR WITH HOLD FOR $large; FETCH 4 FROM c; COMMIT");
	is(described($client, $read), 'new', 'WITH HOLD: another statement');
	is(count_right(($client->query('FETCH ALL FROM c'))[0]{rows}, 5), $many - 4, '... and the rest');
	$client->query('CLOSE c');

	# an error alone, many times: the connection is kept
	my $before = $pid->();

	is((state_and_message($client, 'SELECT id, 1 / (id - 500) FROM t ORDER BY id'))[0],
		'22012', 'an error of the primary')
	  foreach 1 .. 3;
	is($pid->(), $before, '... does not cost the connection');
	check_session_goes_on('after that', $client);
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


# What is put away for another statement can fail on the way; then it must not
# look as if it was all.
subtest 'half put away' => sub {
	my $client = redirect_session($standby, $token, server => 'by_proxy');

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . " DECLARE c CURSOR FOR $large; FETCH 4 FROM c; SAVEPOINT s");
		$proxy->tell('stall_after', 1000000);
		is((state_and_message($client, "SET LOCAL statement_timeout = '500ms'; $read"))[0],
			'57014', "$isolation: a timeout while rows are put away");
		$client->query('ROLLBACK TO s');
		$proxy->tell('pass');
		my $rest = ($client->query('FETCH ALL FROM c'))[-1];
		my $what = $rest->{state} eq '00000' ? count_right($rest->{rows}, 5) : $rest->{state};

		like($what, qr/^(08006|@{[ $many - 4 ]})$/, '... then all the rest, or an error');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);

		$client->ok_query("BEGIN ISOLATION LEVEL $isolation;"
			  . ' DECLARE c CURSOR FOR SELECT id, 1 / (id - 500), v FROM t ORDER BY id;'
			  . ' FETCH 4 FROM c; SAVEPOINT s');
		my $state = (state_and_message($client, $read))[0];

		like($state, qr/^(00000|22012)$/, "$isolation: an error among the rows that are put away");
		$client->query('ROLLBACK TO s');
		$rest = ($client->query('FETCH ALL FROM c'))[-1];
		isnt($rest->{state}, '00000', '... shows when the cursor comes to it')
		  or diag(scalar(@{ $rest->{rows} }) . ' rows and no error');
		$client->ok_query('ROLLBACK');
		check_session_goes_on('ROLLBACK', $client);
	}
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};

# As drivers do who set a savepoint before each statement.
subtest 'given up within a savepoint' => sub {
	my $client = redirect_session($standby, $token, server => 'tcs_primary');

	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		foreach my $first ('', $read)
		{
			my $what = "$isolation, " . ($first ? 'second' : 'first') . ' statement';

			$client->ok_query("BEGIN ISOLATION LEVEL $isolation");
			$client->ok_query($first) if $first;
			$client->query('SAVEPOINT s');
			start_endless($at_primary, $client);
			$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
			is((($client->results)[-1])->{state}, '57014', "$what: cancelled");
			ok(wait_for_remote($at_primary, 0, 'pg_sleep'), '... and so is the query on the primary');
			$client->query('ROLLBACK TO s');

			# in REPEATABLE READ the snapshot may be lost
			my $after = described($client, "SET statement_timeout = '5s'; $read");

			like($after, $isolation eq 'READ COMMITTED' ? qr/^new$/ : qr/^(new$|08006|40001)/,
				'... the transaction goes on, or must be repeated');
			$client->ok_query('ROLLBACK; RESET statement_timeout');
			check_session_goes_on('ROLLBACK', $client);
		}
	}
	$client->disconnect;
	ok(wait_for_connections($at_standby, 0), 'nothing is left');
};


##
## A large result
##

# Peak memory of the session's process, in kB.
sub peak
{
	my ($client) = @_;
	my $status = slurp_file('/proc/' . $client->pid . '/status');

	return $status =~ /^VmHWM:\s+(\d+) kB/m ? $1 : die 'no VmHWM';
}

SKIP:
{
	skip 'no /proc here', 1 if !-r "/proc/$$/status";

	subtest 'a large result' => sub {
		my $client = redirect_session($standby, $token, server => 'tcs_primary');

		# psql throws 300 MB away more quickly than this program could
		my $query =
		  q{SELECT v || repeat(g::text, 100) FROM t, generate_series(100000, 599999) g WHERE id = 1};
		my $got = '';
		my $before;

		$client->ok_query("$read; SELECT count(*) FROM t");
		$before = peak($client);
		$client->ok_query("BEGIN; DECLARE c CURSOR FOR $query");
		my $rows = 0;

		foreach (1 .. 20)
		{
			$rows += @{ ($client->query('FETCH 5000 FROM c'))[0]{rows} };
		}
		is($rows, 100000, 'a cursor: 60 MB');
		cmp_ok(peak($client) - $before, '<', 30000, '... in less than 30 MB');
		$client->ok_query('COMMIT');
		cmp_ok(peak($client) - $before, '<', 30000, '... also where the rest is not wanted');
		$client->ok_query("BEGIN; DECLARE c CURSOR FOR $query; FETCH 4 FROM c; CLOSE c");
		is(described($client, $read), 'new', 'another statement in place of the rest');
		$client->ok_query('COMMIT');
		cmp_ok(peak($client) - $before, '<', 30000, '... in less than 30 MB');
		$client->disconnect;

		my $out = run_sql_output(
			"SELECT 'before ' || pg_read_file('/proc/self/status');\n"
			  . "SET tcs.read_level = 'session';\n"
			  . "$read;\n"
			  . "\\o /dev/null\n"
			  . "COPY ($query) TO STDOUT;\n"
			  . "\\o\n"
			  . "SET tcs.read_level = 'eventual';\n"
			  . "SELECT 'after ' || pg_read_file('/proc/self/status')");
		my ($first, $last) = $out =~ /^VmHWM:\s+(\d+) kB/mg;

		like($out, qr/^new$/m, 'COPY of 300 MB');
		cmp_ok($last - $first, '<', 30000, '... in less than 30 MB')
		  or diag("$first, $last");

		# few rows that are long
		my $wide = redirect_session($standby, $token, server => 'tcs_primary');

		$wide->ok_query($read);
		$before = peak($wide);
		$wide->simple("SELECT g, v || repeat('x', 1000000) FROM t, generate_series(1, 200) g WHERE id = 1");
		my $size = 0;

		$size += length $_->[1] foreach @{ ($wide->results)[-1]{rows} };
		is($size, 200 * 1000003, '200 rows of 1 MB');
		cmp_ok(peak($wide) - $before, '<', 30000, '... in less than 30 MB');
		$wide->disconnect;
	};
}

sub run_sql_output
{
	my ($sql) = @_;

	return read_at($standby, $sql,
		level => 'eventual',
		token => $token,
		set => { 'tcs.redirect_server' => 'tcs_primary' });
}

done_testing();
