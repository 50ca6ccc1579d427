# test/t/590_commits_under_way.pl
#
# A commit that a standby shows and that the primary does not show yet, whose
# transaction id is above all that have ended.  No part of a snapshot of the
# primary names it.  So what is looked at must be looked at before the snapshot
# is taken: by a redirected read, whose snapshot is that of its transaction, and
# where the commit is not one of a session, but COMMIT PREPARED of an apply
# worker.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsStops;
use TcsTest;
use TcsWire;

# A module that stops redirect_begin() where the transaction has its snapshot
# and the function has not begun.
my $folder = PostgreSQL::Test::Utils::tempdir;
my $problem = build_stopping($folder, 'tcs_internal.redirect_begin(');

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
my ($primary, $standby) = new_pair(
	primary_conf => $problem eq '' ? "shared_preload_libraries = 'tcs,$folder/stopping'" : '');
my $local = '-c synchronous_commit=local -c tcs.read_level=eventual';
my $look = TcsWire->new($primary, options => $local);

$primary->safe_psql('postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)});
redirect_to($primary);
wait_for_replay($primary, $standby);
wait_for_answer($standby);

# Commits wait for a standby that does not exist, or for none.
sub set_quorum_locally
{
	my ($names) = @_;

	local $ENV{PGOPTIONS} = $local;
	set_quorum($primary, $names);
	return;
}

SKIP:
{
	skip "no compiler: $problem", 3 if $problem ne '';

	# The older transaction ends later, so that its end moves no snapshot's xmax
	# past the one whose commit hangs.
	my $older = TcsWire->new($primary, options => $local);
	my $writer = TcsWire->new($primary);
	my $reader = TcsWire->new($standby);
	my $at_standby = TcsWire->new($standby, options => $local);

	$older->ok_query('BEGIN; UPDATE t SET v = 1 WHERE id = 2');
	set_quorum_locally('nobody');
	$writer->simple('UPDATE t SET v = 1 WHERE id = 1')->flush;
	$at_standby->poll('SELECT v = 1 FROM t WHERE id = 1') or die 'the commit is not replayed';
	is($reader->ok_query('SELECT v FROM t WHERE id = 1'), '1', 'the standby shows the commit');
	my $token = $reader->ok_query('SELECT tcs.session_token()');

	pause_replay($standby);
	$older->ok_query('COMMIT');
	append_to_file("$folder/armed", '');
	$reader->ok_query(
		"SET tcs.session_token = '$token'; SET tcs.read_level = strong; SET tcs.redirect_timeout = '180s'");
	$reader->simple('SELECT v FROM t WHERE id = 1')->flush;
	my $waits = q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE wait_event IN ('Extension', 'TcsCommit') AND query LIKE 'SET LOCAL tcs.redirected_for%'};
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until (-e "$folder/reached" || $look->look($waits) eq 't')
	{
		die 'the redirected read came to no stop' if time > $deadline;
	}
	set_quorum_locally('');
	is(($writer->results)[0]{tag}, 'UPDATE 1', 'the commit ends');
	unlink "$folder/armed";
	is(TcsWire::describe_result(($reader->results)[-1]),
		'1', 'a redirected read shows what its session has seen on the standby');
	resume_replay($standby);
	$_->disconnect foreach ($older, $writer, $reader, $at_standby);
}

# COMMIT PREPARED of an apply worker.
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', "max_prepared_transactions = 10\nautovacuum = off");
$publisher->start;
$publisher->safe_psql('postgres',
	'CREATE TABLE p (id int PRIMARY KEY, v int); CREATE PUBLICATION pub FOR TABLE p');
my $connstr = $publisher->connstr('postgres') =~ s/'/''/gr;

$primary->safe_psql('postgres', 'CREATE TABLE p (id int PRIMARY KEY, v int)');
$primary->safe_psql('postgres',
	"CREATE SUBSCRIPTION sub CONNECTION '$connstr' PUBLICATION pub"
	  . q{ WITH (two_phase = true, synchronous_commit = 'on', copy_data = false)});
$look->poll(q{SELECT subtwophasestate = 'e' FROM pg_subscription})
  or die 'the subscription has no two phases';
$publisher->safe_psql('postgres',
	q{BEGIN; INSERT INTO p VALUES (1, 1); PREPARE TRANSACTION 'one'});
$look->poll('SELECT count(*) = 1 FROM pg_prepared_xacts') or die 'nothing is prepared';
set_quorum_locally('nobody');
$publisher->safe_psql('postgres', q{COMMIT PREPARED 'one'});

my $at_standby = TcsWire->new($standby, options => $local);

$at_standby->poll('SELECT count(*) = 1 FROM p') or die 'the commit is not replayed';
my $token = $at_standby->ok_query('SELECT tcs.session_token()');

is(read_at($primary, 'SELECT count(*) FROM p', level => 'eventual'),
	'0', 'COMMIT PREPARED of an apply worker hangs');
is(psql_err($primary, 'SELECT count(*) FROM p', token => $token, max_wait => 0),
	'TC001', '... who has seen it on the standby is told so');
is(psql_err($primary, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM p",
		token => $token, max_wait => 0),
	'TC001', '... in REPEATABLE READ, too');
is( psql_err($primary, "CALL tcs.wait_for('$token', '10 ms')"),
	'TC001', '... and by tcs.wait_for()');
$at_standby->ok_query("SET tcs.session_token = '$token'");
pause_replay($standby);
$look->ok_query('CREATE TABLE later ()');
is( psql_err(
		$standby, 'SELECT count(*) FROM p',
		level => 'strong',
		token => $token,
		max_wait => 500,
		set => { 'tcs.redirect_timeout' => '300ms' }),
	'TC001', '... a redirected read waits for it as well');

my $waiting = TcsWire->new($primary);

$waiting->ok_query("SET tcs.max_wait = -1; SET tcs.session_token = '$token'");
$waiting->simple('SELECT count(*) FROM p')->flush;
$look->poll('SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ' . $waiting->pid
	  . q{ AND wait_event IN ('Extension', 'TcsCommit')}) or die 'the read does not wait';
set_quorum_locally('');
is(TcsWire::describe_result(($waiting->results)[-1]), '1', 'a read that waits is served when it ends');
is(read_at($standby, 'SELECT count(*) FROM p', level => 'strong', token => $token),
	'1', 'a redirected one as well');
resume_replay($standby);
$primary->safe_psql('postgres', 'DROP SUBSCRIPTION sub');

done_testing();
