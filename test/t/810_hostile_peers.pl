# test/t/810_hostile_peers.pl
#
# Peers that do not behave: a primary that the worker of a standby asks, a
# redirect server that its sessions send statements to, and a standby that asks
# a primary.  Each makes one move at a time (see TcsHostile.pm).  Whatever it
# does, no process crashes or takes much memory, nothing odd gets into the log,
# sessions can be cancelled, and with an honest peer all is as before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsHostile;
use TcsReadIndex;
use TcsTest;
use TcsToken;
use TcsWire;

# What a move may cost a process, in kB.
my $memory = 48 * 1024;

my ($primary, $standby) = new_pair(init => { extra => [ '--encoding=UTF8', '--locale=C' ] });

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v int, w text);
	INSERT INTO t VALUES (1, 1, 'old');
});
wait_for_answer($standby);

my $peer = TcsHostile->new(
	answer => $primary->safe_psql('postgres', 'SHOW tcs.read_index',
		connstr => $primary->connstr('postgres') . " options='$TcsReadIndex::options'"));
my $server = sprintf('host=127.0.0.1 port=%s', $peer->port);
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $log = log_position($standby);

# How much memory a process has had at most, in kB; undef if it is gone.
sub peak_of
{
	my ($pid) = @_;
	my $peak;

	open(my $fh, '<', "/proc/$pid/status") or return;
	while (my $line = <$fh>)
	{
		$peak = $1 if $line =~ /^VmHWM:\s+(\d+) kB/;
	}
	close($fh);
	return $peak;
}

# Until the peer has made a move more often than before.
sub wait_for_move
{
	my ($move, $before) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $peer->made($move) > $before;
		select(undef, undef, undef, 0.05);
	}
	return 0;
}

# What is wrong with the process: it took too much, or was lost.  Where rows come,
# one may be as long as any row can be.
sub check_memory
{
	my ($pid, $before, $move) = @_;
	my $most = peak_of($pid);

	return 'its process is gone' if !defined $most;
	return '' if $move =~ /^endless_row\@(statement|commit)/;
	return $most - $before > $memory ? sprintf('it took %d kB', $most - $before) : '';
}

sub worker_pid
{
	return $at_standby->ok_query(
		'SELECT worker_pid FROM tcs.status');
}

sub link_is
{
	my ($state, $reason) = @_;

	return $at_standby->poll(
		"SELECT link_state IN ($state) AND link_detail ~ '$reason' FROM tcs.status");
}

sub set_peer_of_worker
{
	my ($conninfo) = @_;

	$standby->append_conf('postgresql.conf', "tcs.primary_conninfo = '$conninfo'");
	$standby->reload;
	return;
}


##
## A primary that the worker asks
##

my $worker = worker_pid();

# [move, what the link's reason is to say]; the states are down and refused.
sub worker_meets
{
	my ($move, $reason, $options) = @_;
	my $before = peak_of($worker);
	my $made = $peer->made($move);

	$reason //= '.';
	$options //= 'sslmode=disable';
	set_peer_of_worker("$server dbname=postgres $options application_name=$move");

	# before it connects, the link's old state is gone
	wait_for_move($move, $made);

	my $ok = link_is(q{'down', 'refused'}, $reason);
	my $said = $at_standby->ok_query(
		"SELECT link_state || ': ' || coalesce(link_detail, '') FROM tcs.status");
	my $bad = $ok ? check_memory($worker, $before, $move) : 'the link does not say it';

	$bad ||= 'it is another worker' if worker_pid() ne $worker;
	$bad ||= 'the move was not made' if $peer->made($move) == $made;
	is($bad, '', "worker, $move: $said");
	return;
}

my $shape = 'answer is not one line';
my $more = 'more than an answer|beside its answers';
my $length = 'message|synchronization|insufficient|agree|unexpected|extraneous';

foreach my $test (
	[ 'closes@start', 'closed the connection' ],
	[ 'silent@start', 'timed out' ],
	[ 'garbage@start', 'expected authentication' ],
	[ 'other_password@start', 'no password' ],
	[ 'unknown_authentication@start', 'authentication' ],
	['endless_passwords@start'],
	['endless_scram@start'],
	[ 'many_iterations@start', 'iterations', 'sslmode=disable password=x' ],
	[ 'many_iterations_split@start', 'iterations', 'sslmode=disable password=x' ],
	['endless_notices@start'],
	[ 'endless_parameters@start', '.' ],
	[ 'error_escape@start', '^[ -~]+$' ],
	[ 'error_long@start', '^[ -~]+$' ],
	[ 'copy_out@start', '.' ],
	[ 'hides_its_state@start', 'does not report whether', 'target_session_attrs=primary' ],
	[ 'hides_its_state@start', 'does not report whether', 'target_session_attrs=read-write' ],
	[ 'endless_rows@idle', '.' ],
	[ 'endless_notices@idle', $more ],
	[ 'endless_notifications@idle', $more ],
	[ 'endless_parameters@idle', $more ],
	[ 'no_columns@ask', $shape ],
	[ 'no_rows@ask', $shape ],
	[ 'null_value@ask', 'without tcs' ],
	[ 'two_rows@ask', $shape ],
	[ 'two_columns@ask', $shape ],
	[ 'other_format@ask', $shape ],
	[ 'more_than_promised@ask', 'unexpected field count' ],
	[ 'short_value@ask', 'not understood' ],
	[ 'invalid_text@ask', 'not understood' ],
	[ 'long_text@ask', 'not understood' ],
	[ 'copy_in@ask', 'something else' ],
	[ 'copy_out@ask', 'something else' ],
	[ 'copy_both@ask', 'something else' ],
	[ 'endless_copy@ask', 'something else' ],
	[ 'empty_query@ask', 'something else' ],
	[ 'command@ask', 'something else' ],
	[ 'only_ready@ask', 'without a result' ],
	[ 'unknown@ask', 'unexpected response' ],
	[ 'short_length@ask', $length ],
	[ 'long_length@ask', '.' ],
	[ 'row_beyond_message@ask', $length ],
	[ 'negative_length@ask', $length ],
	[ 'columns_beyond_message@ask', $length ],
	[ 'claims_much@ask', '.' ],
	[ 'dribble@ask', '5 s' ],
	[ 'silent@ask', '5 s' ],
	[ 'closes_half_way@ask', 'closed the connection' ],
	[ 'error_without_fields@ask', '.' ],
	[ 'error_without_state@ask', 'no' ],
	[ 'error_escape@ask', '^[ -~]+$' ],
	[ 'error_long@ask', '.' ],
	[ 'error_fatal@ask', 'no' ],
	[ 'endless_rows@ask', $more ],
	[ 'endless_row@ask', $more ],
	[ 'endless_results@ask', 'something else' ],
	[ 'endless_notices@ask', $more ],
	[ 'endless_notifications@ask', $more ],
	[ 'endless_parameters@ask', $more ],
	[ 'endless_columns@ask', '.' ],
	[ 'more_parameters@ask', 'beside its answers' ],
	[ 'goes_back@ask', 'has less WAL' ],
	[ 'says_little@ask', 'has less WAL' ],
	[ 'says_zero@ask', 'no primary can have' ],
	[ 'says_beyond_end@ask', 'no primary can have' ],
	[ 'says_before_timeline@ask', 'no primary can have' ],
	(map { ["$_\@ask", '^[ -~]+$'] } TcsHostile::lies()),
  )
{
	worker_meets(@$test);
}

set_peer_of_worker("$server dbname=postgres sslmode=disable application_name=honest");
ok($at_standby->poll(q{SELECT link_state = 'up' FROM tcs.status}),
	'worker, the peer is honest again: connected');
set_peer_of_worker("$server dbname=postgres sslmode=disable application_name=lies_about_itself\@start");
ok($at_standby->poll(q{SELECT link_state = 'up' FROM tcs.status}),
	'worker, a peer that lies about itself and answers: connected');
set_peer_of_worker('');
$primary->safe_psql('postgres', 'UPDATE t SET v = 3');
is(read_at($standby, 'SELECT v FROM t', level => 'strong', max_wait => '60s'),
	3, 'worker, the primary is asked again: strong sees the last write');
is(worker_pid(), $worker, '... by the same worker');
my @logged = grep { !/LOG:  statement:/ } split /\n/, log_since($standby, $log);

is((grep { /[^\t -~]/ } @logged), 0, '... and the log has printable ASCII alone');
cmp_ok(scalar(@logged), '<', 1000, '... and not much');


##
## A redirect server
##

my $number = 'SELECT v FROM t WHERE id = 1';
my $name = 'SELECT v::regclass FROM t WHERE id = 1';
my $text = 'SELECT w FROM t WHERE id = 1';

# It was not begun, so it is the standby's to refuse; the connection is lost; the
# columns are others; a function of input or receiving refuses.
my $not_begun = 'TC001';
my $lost = '08006';
my $columns = '40001';
my $endless = 'endless';

my @redirects = (
	(map { [ "$_\@start", $not_begun ] }
		qw(closes silent garbage other_password unknown_authentication endless_passwords
		endless_scram many_iterations many_iterations_split endless_notices endless_parameters
		error_escape error_long copy_out hides_its_state)),
	(map { [ "$_\@idle", $not_begun ] }
		qw(endless_notices endless_notifications endless_parameters copy_out)),
	(map { [ "$_\@prepare", $not_begun ] }
		qw(closes silent copy_out endless_copy no_columns only_ready command unknown short_length
		endless_rows endless_results endless_notices endless_parameters error_without_state
		error_escape error_long out_of_turn)),
	(map { [ "$_\@begin", $not_begun ] }
		qw(closes silent copy_in copy_out copy_both endless_copy no_columns no_rows empty_query
		only_ready unknown out_of_turn endless_rows endless_results endless_row error_short_state
		error_success error_fatal claims_much dribble)),
	(map { [ "$_\@call", $not_begun ] }
		qw(no_columns no_rows null_value two_rows two_columns other_format more_than_promised
		short_value invalid_text long_text copy_in copy_out copy_both endless_copy empty_query
		command only_ready unknown out_of_turn short_length long_length row_beyond_message
		negative_length claims_much columns_beyond_message error_without_fields
		error_without_state error_short_state error_odd_state error_success error_escape
		error_position error_long error_fatal error_panic dribble silent closes_half_way
		endless_rows endless_row endless_results endless_notices endless_notifications
		endless_parameters endless_columns older_token)),
	[ 'lies_about_itself@start', '00000' ],
	[ 'notice_escape@call', '00000' ],
	[ 'no_columns@statement', $columns ],
	[ 'null_value@statement', '00000' ],
	[ 'two_columns@statement', $columns ],
	[ 'other_type@statement', $columns ],
	[ 'other_format@statement', $columns ],
	[ 'more_than_promised@statement', 'error' ],
	[ 'short_value@statement', '22P03|08P01' ],
	[ 'long_value@statement', '22P03' ],
	[ 'invalid_text@statement', '22021', $text ],
	[ 'invalid_text@statement', '22021', $name ],
	[ 'other_columns_later@statement', 'error' ],
	(map { [ "$_\@statement", $lost ] }
		qw(copy_in copy_out copy_both endless_copy empty_query command only_ready
		error_without_state error_short_state error_odd_state error_fatal error_panic closes_half_way
		endless_names)),
	(map { [ "$_\@statement", 'error' ] }
		qw(unknown short_length long_length row_beyond_message negative_length
		columns_beyond_message error_without_fields error_success error_escape error_position
		error_long endless_results endless_columns claims_much)),
	[ 'notice_escape@statement', '00000' ],
	(map { [ "$_\@statement", $endless ] }
		qw(silent out_of_turn dribble endless_rows endless_notices endless_notifications)),
	(map { [ "$_\@commit", $lost ] } qw(silent copy_out only_ready dribble endless_notices
		endless_row endless_rows no_columns closes)),
);

my %servers = map { $_->[0] => 1 } (@redirects, ['honest'], ['first_token@call'], ['more_parameters@statement']);

# The statements that make redirect servers of these names.
sub servers
{
	return join "\n", map {
		my $quoted = '"' . $_ . '"';
		"CREATE SERVER $quoted FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '127.0.0.1', port '"
		  . $peer->port
		  . "', sslmode 'disable', application_name '$_');"
		  . "CREATE USER MAPPING FOR CURRENT_USER SERVER $quoted"
		  . (/iterations/ ? " OPTIONS (password 'x');" : ';')
	} @_;
}

# What redirect_begin() would return after a write: a position that covers all.
sub primary_token
{
	my ($sql) = @_;

	$primary->safe_psql('postgres', $sql);
	return $primary->safe_psql('postgres', 'SELECT tcs.session_token()');
}

# Before the servers, so the standby comes past it.
$peer->set_token(primary_token('UPDATE t SET v = 3'));
$primary->safe_psql('postgres', servers(sort keys %servers));
$primary->safe_psql('postgres',
	q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0});
$primary->safe_psql('bytes',
	'CREATE EXTENSION tcs; CREATE TABLE t AS SELECT 1 AS id, 1 AS v;'
	  . servers('error_escape@call', 'notice_escape@statement'));
wait_for_replay($primary, $standby);
pause_replay($standby);

$peer->set_token(primary_token('UPDATE t SET v = 2'));

my $token = primary_token('UPDATE t SET v = 4');

# The primary goes on to write WAL of its own, which the standby receives.
$peer->set_token(token_with($token, seen_primary => 0x10000000));

sub session_with_peer
{
	my ($move, %opt) = @_;
	my $client = TcsWire->new($standby, %opt);

	$client->ok_query("SET tcs.session_token = '$token'; SET tcs.fallback = 'redirect, error';"
		  . "SET tcs.max_wait = '10ms'; SET tcs.redirect_timeout = '700ms';"
		  . "SET tcs.redirect_server = '$move'");
	return $client;
}

# Ends a statement that would go on for ever, in one of three ways.
sub end_endless
{
	my ($client, $way) = @_;

	if ($way ne 'timeout')
	{
		$at_standby->ok_query(
			sprintf 'SELECT pg_%s_backend(%d)', $way, $client->pid);
	}
	return;
}

my $turn = 0;
my $of_standby = log_position($standby);

foreach my $test (@redirects)
{
	my ($move, $wanted, $sql) = @$test;
	my $way = qw(cancel terminate timeout) [ $turn % 3 ];
	my $client = session_with_peer($move,
		$wanted eq $endless && $way eq 'timeout' ? (options => '-c statement_timeout=2s') : ());
	my $pid = $client->pid;
	my $before = peak_of($pid);
	my $made = $peer->made($move);
	my $bad = '';

	$client->simple($sql // $number)->flush;
	if ($wanted eq $endless)
	{
		$turn++;
		wait_for_move($move, $made);
		$bad ||= check_memory($pid, $before, $move) if $way ne 'timeout';
		end_endless($client, $way);
	}

	my ($result) = grep { $_->{state} ne '00000' } my @results = $client->results;

	$result //= $results[-1];
	my $state = $result->{state};
	my $said = TcsWire::describe_result($result);
	my $pattern =
		$wanted eq $endless ? ($way eq 'terminate' ? '57P01|08006' : '57014')
	  : $wanted eq 'error' ? '(?!00000|5701).*'
	  : $wanted;

	$bad ||= "it says $state" if $state !~ /^(?:$pattern)$/;
	$bad ||= 'the move was not made' if $peer->made($move) == $made;
	$bad ||= 'text that must not be shown' if $said =~ /[\e\a\x9b]|\xff/;
	$bad ||= 'a very long message' if length $said > 200_000;
	if ($wanted ne $endless || $way ne 'terminate')
	{
		$bad ||= check_memory($pid, $before, $move);
		$client->query(q{SET tcs.redirect_server = 'honest'});
		my $honest = TcsWire::describe_result(($client->query($number))[-1]);

		$bad ||= "not the honest peer's answer: $honest" if $honest ne '4711';
	}
	$said =~ s/[^ -~]/?/g;
	is($bad, '', "redirect, $move" . ($wanted eq $endless ? " ($way)" : '') . ': ' . substr($said, 0, 250));
	$client->disconnect;
}

# A position that this standby had replayed before is not that of a primary, also
# if no token asks for more.
my $client = session_with_peer('first_token@call');

$client->ok_query(q{SET tcs.session_token = ''; SET tcs.read_level = 'strong'});
my ($result) = $client->query($number);
is($result->{state}, 'TC001', 'redirect, a position from before: refused');
like(TcsWire::describe_result($result), qr/the redirect server has less WAL than the primary had before/, '... and says why');
$client->disconnect;

# Each answer is small.  What is kept of them is not, if nobody looks.
$client = session_with_peer('more_parameters@statement');
my $before = peak_of($client->pid);
my $answered = grep { TcsWire::describe_result(($client->query($number))[-1]) eq '4711' } 1 .. 400;

is($answered, 400, 'redirect, other parameters with each answer: answered');
is(check_memory($client->pid, $before, 'more_parameters@statement'), '', '... in bounded memory');
$client->disconnect;

# In a database without an encoding, any text is valid; it is the client's that
# has to be looked at.
foreach my $test ([ 'error_escape@call', 'TC001' ], [ 'notice_escape@statement', '00000' ])
{
	my ($move, $state) = @$test;
	my $client = session_with_peer($move, dbname => 'bytes');

	is(($client->query($number))[-1]{state}, $state, "redirect, $move: no encoding");
}
unlike(log_since($standby, $of_standby), qr/[\e\a\x9b\xff]/, 'redirect: nothing odd in the log');
ok($at_standby->ok_query('SELECT true'), '... and no session was lost');
resume_replay($standby);


##
## A standby that asks
##

my $at_primary = TcsWire->new($primary);
my $odd = "\e]0;owned\a\xff\xfe%s%n";

foreach my $asker ($odd, '%s%n%s%n', '1.0 99999999999999999999', '1.0 -1', 'x' x 9000, '-', '1.0')
{
	my $shown = $asker =~ s/[^ -~]/?/gr;

	$shown = substr($shown, 0, 40);
	foreach my $name ($odd, 'tcs:', 'tcs:' . 'n' x 300)
	{
		my $escaped = $asker =~ s/([\\ ])/\\$1/gr;
		my $client = eval {
			TcsWire->new(
				$primary,
				replication => 'true',
				application_name => $name,
				options => "-c tcs.asker=$escaped");
		};

		next if !$client && $asker eq $odd;
		if (!$client)
		{
			fail("standby, $shown: not let in: $@");
			next;
		}
		$client->query('SHOW tcs.read_index') for 1 .. 3;
		$client->query($_)
		  foreach ('SHOW tcs.quorum_index', 'SHOW tcs.quorum_round', 'SHOW tcs.' . 'x' x 100,
			'SHOW "tcs.read_index";', "SHOW $odd", 'IDENTIFY_SYSTEM');
		$client->extended('SHOW tcs.read_index')->sync->results;
		like(
			TcsWire::rows_text(($client->query('SHOW tcs.read_index'))[-1]),
			qr/^1 primary /,
			"standby, asker $shown: is answered");
		$client->disconnect;
	}
	is(($at_primary->query('SELECT count(*) >= 0 FROM tcs.standbys'))[-1]{state},
		'00000', '... and can be shown');
}
ok( $at_primary->ok_query(q{SELECT bool_and(library_version !~ '[^ -~]') IS NOT false FROM tcs.standbys}),
	'standby: what it says of itself is printable');
$primary->safe_psql('postgres', 'UPDATE t SET v = 5');
is(read_at($standby, 'SELECT v FROM t', level => 'strong', max_wait => '60s'),
	5, 'strong sees the last write after all that');

$peer->stop;
done_testing();
