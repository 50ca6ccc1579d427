# test/t/545_redirect_leftovers.pl
#
# What a redirected statement leaves: in the session's token, which must cover
# what the statement has shown, by whatever way the client asks for it next; and
# on the primary, in a connection that others use later, where nothing may be
# left.
#
# Replay stands still: what is new comes from the primary.

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

$primary->safe_psql(
	'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'old');
CREATE FUNCTION runs(what text, OUT result text) LANGUAGE plpgsql AS $$
BEGIN EXECUTE what; result := (SELECT v FROM public.t WHERE id = 1); END$$;
CREATE FUNCTION gives(what text, OUT result text) LANGUAGE plpgsql AS $$
BEGIN EXECUTE what INTO result; END$$;
CREATE FUNCTION catches(what text, OUT result text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_lock(1);
	BEGIN EXECUTE what; EXCEPTION WHEN OTHERS THEN NULL; END;
	result := pg_advisory_unlock(1);
END$$;
});
redirect_to($primary);
wait_for_replay($primary, $standby);
wait_for_answer($standby);
pause_replay($standby);

my $look = TcsWire->new($primary);
my $changes = 0;

# Makes a new row; returns it.
sub new_row
{
	$changes++;
	$look->ok_query("UPDATE t SET v = 'new $changes' WHERE id = 1");
	return "new $changes";
}

# A client whose next read is redirected.
sub strong_client
{
	my (%opt) = @_;
	my $set = delete $opt{set} // '';
	my $client = TcsWire->new($standby, %opt);

	$client->ok_query(
		"SET tcs.read_level = strong; SET tcs.redirect_after = 0; SET tcs.max_wait = 10; $set");
	return $client;
}

my $read = 'SELECT v FROM t WHERE id = 1';


##
## The token covers what was shown
##

my $oid = $look->ok_query(q{SELECT 'tcs.session_token()'::regprocedure::oid});
my @ways = (
	[ 'tcs.session_token()' => sub { $_[0]->ok_query('SELECT tcs.session_token()') } ],
	[ 'SHOW' => sub { $_[0]->ok_query('SHOW tcs.session_token') } ],
	[ 'current_setting()' => sub { $_[0]->ok_query(q{SELECT current_setting('tcs.session_token')}) } ],
	[ 'pg_settings' => sub { $_[0]->ok_query(q{SELECT setting FROM pg_settings WHERE name = 'tcs.session_token'}) } ],
	[ 'a cursor' => sub {
			my $in_block = $_[0]->status eq 'T';
			my $result = $_[0]->ok_query(($in_block ? '' : 'BEGIN;')
				. 'DECLARE own CURSOR FOR SELECT tcs.session_token(); FETCH own');

			$_[0]->query('COMMIT') if !$in_block;
			return $result;
		} ],
	[ 'a function' => sub { $_[0]->ok_query(q{DO $$BEGIN PERFORM set_config('my.token', tcs.session_token(), false); END$$; SHOW my.token}) } ],
	[ 'the function call protocol' => sub { TcsWire::rows_text(($_[0]->call($oid)->results)[0]) } ]);
my @places = (
	[ 'autocommit', $read ],
	[ 'in a block', 'BEGIN', $read ],
	[ 'a cursor', 'BEGIN', "DECLARE c CURSOR FOR $read", 'FETCH c' ],
	[ 'EXECUTE', "PREPARE p AS $read", 'BEGIN', 'EXECUTE p' ],
	[ 'COPY', 'BEGIN', "COPY ($read) TO STDOUT" ],
	[ 'after RELEASE', 'BEGIN', 'SAVEPOINT a', $read, 'RELEASE a' ],
	[ 'after ROLLBACK TO', 'BEGIN', 'SAVEPOINT a', $read, 'ROLLBACK TO a' ],
	[ 'after an error and ROLLBACK TO', 'BEGIN', 'SAVEPOINT a', $read, 'SELECT 1 / 0', 'ROLLBACK TO a' ],
	[ 'after ROLLBACK', 'BEGIN', $read, 'ROLLBACK' ],
	[ 'after an error and ROLLBACK', 'BEGIN', $read, 'SELECT 1 / 0', 'ROLLBACK' ],
	[ 'after COMMIT AND CHAIN', 'BEGIN', $read, 'COMMIT AND CHAIN' ],
	[ 'REPEATABLE READ', 'BEGIN ISOLATION LEVEL REPEATABLE READ', $read ],
	[ 'REPEATABLE READ, after ROLLBACK TO', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SAVEPOINT a', $read, 'ROLLBACK TO a' ]);

foreach my $place (@places)
{
	my ($where, @sql) = @$place;

	foreach my $way (@ways)
	{
		# what cannot run in such a transaction is refused
		next if $where =~ /^REPEATABLE/ && $way->[0] =~ /^a /;

		my $client = strong_client();
		my $value = new_row();

		is(scalar(grep { ($_->{copy} // '') eq "$value\n" || TcsWire::describe_result($_) eq $value }
				map { $client->query($_) } @sql),
			1, "$where: the read is redirected");
		# What comes to the gate itself must not be held there.  The others come
		# right after the read: each statement between could report the token.
		$client->query('SET tcs.read_level = eventual') if $way->[0] =~ /^(a |pg_settings)/;
		my $token = $way->[1]->($client);

		is( $token eq '' ? 'no token' : psql_err(
				$standby, $read,
				level => 'session',
				token => $token,
				fallback => 'error',
				max_wait => 0),
			'TC001', "$where: $way->[0] has a token that covers it");
		$client->disconnect;
	}
}

# In one string, and in one pipeline.
{
	my $client = strong_client();
	my $value = new_row();
	my @results = $client->query("$read; SELECT tcs.session_token()");

	is(TcsWire::rows_text($results[0]), $value, 'one string: the read is redirected');
	is(psql_err($standby, $read, token => TcsWire::rows_text($results[1]), fallback => 'error', max_wait => 0),
		'TC001', 'one string: the token covers it');
	$value = new_row();
	@results = $client->extended($read)->extended('SELECT tcs.session_token()')->sync->results;
	is(TcsWire::rows_text($results[0]), $value, 'a pipeline: the read is redirected');
	is(psql_err($standby, $read, token => TcsWire::rows_text($results[1]), fallback => 'error', max_wait => 0),
		'TC001', 'a pipeline: the token covers it');
	isnt($client->parameter('tcs.session_token'), '', 'it is reported');
	$client->disconnect;
}

# What the client has set is not lost by what comes back, nor the reverse.
{
	my $written = write_token($primary, q{UPDATE t SET v = 'written' WHERE id = 1});
	my $client = strong_client(set => "SET tcs.session_token = '$written'; SET tcs.hints = 'all'");
	my $value = new_row();
	my $other = write_token($primary, 'CREATE TABLE other ()') =~ s/\.[^.]*$//r;

	is($client->ok_query("/* tcs(level=strong, session_token='"
			  . token_with("$other.0", written => 0) . "') */ $read"),
		$value, 'a read with a token of its own is redirected');
	my $token = $client->ok_query('SELECT tcs.session_token()');

	is($look->ok_query("SELECT tcs.merge_tokens('$token', '$written') = '$token'"),
		't', '... and does not replace what the session had');
	$client->disconnect;
}


##
## A token beyond the primary's WAL
##
{
	my $token = write_token($primary, q{UPDATE t SET v = 'lost' WHERE id = 1});
	my $beyond = token_with($token, written => 0x7fff0000);

	is(psql_err($primary, $read, token => $beyond), 'TC003', 'a token beyond the WAL, on the primary');
	my ($state, $stderr) = psql_err($standby, $read, token => $beyond);

	is($state, 'TC003', '... and redirected');
	like($stderr, qr/part of the primary's history.*DETAIL:.*has written WAL only up to/s, '... with the reason');
	is(psql_err($standby, $read, token => $beyond, fallback => 'error', max_wait => 0),
		'TC001', '... a standby alone cannot know');
	is((run_sql($standby, $read, token => $beyond, fallback => 'redirect, eventual'))[1],
		'old', '... the next step of the list is taken');
}


##
## Nothing is left on the primary
##

my $held = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'};
my $client = strong_client();

foreach my $case (
	[ 'a session lock', q{SELECT runs('SELECT pg_advisory_lock(1)')}, '0A000' ],
	[ 'a shared one', q{SELECT runs('SELECT pg_advisory_lock_shared(1)')}, '0A000' ],
	[ 'one with two keys', q{SELECT runs('SELECT pg_advisory_lock(1, 2)')}, '0A000' ],
	[ 'several', q{SELECT runs('SELECT pg_advisory_lock(i % 7) FROM generate_series(1, 100) i')}, '0A000' ],
	[ 'one that is tried', q{SELECT gives('SELECT pg_try_advisory_lock(1)')}, '0A000' ],
	[ 'one that is given back', q{SELECT gives('SELECT l IS NOT NULL AND pg_advisory_unlock(1) FROM (SELECT pg_advisory_lock(1) AS l OFFSET 0) x')}, 'true' ],
	[ 'one held where an error is caught', q{SELECT catches('SELECT 1 / 0')}, 'true' ],
	[ 'one of the transaction', q{SELECT runs('SELECT pg_advisory_xact_lock(1)')}, qr/^new/ ],
	[ 'both', q{SELECT runs('SELECT pg_advisory_xact_lock(1), pg_advisory_lock(2)')}, '0A000' ],
	[ 'one by a statement that fails', q{SELECT runs('SELECT pg_advisory_lock(1)'), 1 / (length(v) - length(v)) FROM t}, '22012' ],
	[ 'PREPARE', q{SELECT runs('PREPARE left_behind AS SELECT 1')}, '0A000' ],
	[ 'DEALLOCATE', q{SELECT runs('DEALLOCATE ALL')}, '0A000' ],
	[ 'LISTEN', q{SELECT runs('LISTEN left_behind')}, '0A000' ],
	[ 'UNLISTEN', q{SELECT runs('UNLISTEN *')}, '0A000' ],
	[ 'a cursor WITH HOLD', q{SELECT runs('DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1')}, '0A000' ],
	[ 'a cursor', q{SELECT runs('DECLARE left_behind CURSOR FOR SELECT 1')}, qr/^new/ ],
	[ 'a temporary table', q{SELECT runs('CREATE TEMP TABLE left_behind ()')}, '25006' ],
	[ 'DISCARD', q{SELECT runs('DISCARD PLANS')}, '0A000' ],
	[ 'LOAD', q{SELECT runs('LOAD ''tcs''')}, '0A000' ],
	[ 'a setting', q{SELECT runs('SET my.setting = 1')}, '0A000' ])
{
	my ($name, $sql, $wanted) = @$case;

	foreach my $isolation ('', 'READ COMMITTED', 'REPEATABLE READ')
	{
		new_row();
		$client->ok_query("BEGIN ISOLATION LEVEL $isolation") if $isolation;
		my $got = ($client->query($sql))[-1];
		my $what = $got->{state} eq '00000' ? TcsWire::rows_text($got) : $got->{state};
		my $block = $isolation ? ", $isolation" : '';

		# The transaction on the primary ends before that of the client.
		if ($name eq 'one of the transaction' && $isolation eq 'READ COMMITTED')
		{
			is($what, '0A000', "$name$block");
		}
		# The client could not fetch from it.
		elsif ($name eq 'a cursor' && $isolation)
		{
			is($what, '0A000', "$name$block");
		}
		elsif (ref $wanted)
		{
			like($what, $wanted, "$name$block");
		}
		else
		{
			is($what, $wanted, "$name$block");
		}
		$client->ok_query('ROLLBACK') if $isolation;
		ok($look->poll($held =~ s/count\(\*\)/count(*) = 0/r), "$name$block: no lock is left");
		like($client->ok_query($read), qr/^new/, "$name$block: the connection is used again");
	}
}

# From a savepoint the transaction goes on, and what failed holds nothing.
{
	new_row();
	$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$client->ok_query($read);
	$client->ok_query('SAVEPOINT a');
	is(($client->query(q{SELECT runs('SELECT pg_advisory_lock(1)'), 1 / (length(v) - length(v)) FROM t}))[0]{state},
		'22012', 'a lock by a statement that fails behind a savepoint');
	is($look->ok_query($held), '0', '... is not held any more');
	$client->ok_query('ROLLBACK TO a');
	like($client->ok_query(q{SELECT runs('SELECT 1') FROM t}), qr/^new/, '... and is not held against the next one');
	$client->ok_query('COMMIT');
}

# Locks that were there before belong to somebody else.
is(($look->query(q{SET LOCAL tcs.redirected_for = 'none 0'}))[0]{state}, '22023', 'a level that is none');
$look->ok_query('SELECT pg_advisory_lock(5)');
$look->ok_query(q{BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL tcs.redirected_for = 'session 10'});
$look->ok_query(q{SELECT tcs_internal.redirect_begin((SELECT system_identifier FROM pg_control_system()),
	(SELECT oid FROM pg_database WHERE datname = current_database()), 10, '')});
$look->ok_query('SELECT pg_advisory_lock(6), pg_advisory_lock(6)');
is(($look->query('SELECT tcs_internal.redirect_check(true, true)'))[0]{state}, '0A000', 'a new lock beside an old one');
$look->query('ROLLBACK');
is($look->ok_query(q{SELECT objid FROM pg_locks WHERE locktype = 'advisory'}), '5', 'the old one stays');
$look->ok_query('SELECT pg_advisory_unlock(5)');
is(($look->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT 1;
	SET LOCAL tcs.redirected_for = 'session 10'; SELECT tcs_internal.redirect_begin((SELECT system_identifier FROM pg_control_system()),
	(SELECT oid FROM pg_database WHERE datname = current_database()), 10, '')}))[-1]{state}, '25000', 'a transaction that has its snapshot is not taken');
$look->query('ROLLBACK');

resume_replay($standby);
done_testing();
