# test/t/225_smart_stop.pl
#
# A smart shutdown of the primary waits until all clients have left.  What standbys
# have connected must leave by itself: a worker that asks by tcs.primary_conninfo,
# however seldom, and a connection for redirects that is in use.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $primary = new_primary('primary');
my $conninfo = "tcs.primary_conninfo = '" . $primary->connstr('postgres') =~ s/'/''/gr . "'\n";
my $often = new_standby($primary, 'often', conf => $conninfo);
my $seldom = new_standby($primary, 'seldom', conf => "${conninfo}tcs.probe_interval = 0\n");
my $clients = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()};

# Both workers ask, and are clients of the primary.
sub both_ask
{
	my ($what) = @_;

	foreach ($often, $seldom)
	{
		ok($_->poll_query_until('postgres', q{SELECT link_state = 'up' FROM tcs.status}), "$what: " . $_->name . ' asks');
	}
	ok($primary->poll_query_until('postgres', "SELECT ($clients) = 2"), '... by connections of the ordinary kind');
	return;
}

redirect_to($primary);
$primary->safe_psql('postgres', q{CREATE TABLE t (v text); INSERT INTO t VALUES ('old')});
wait_for_replay($primary, $_) foreach ($often, $seldom);
both_ask('at first');

my @log = map { log_position($_) } ($often, $seldom);

is($primary->stop('smart', fail_ok => 1), 1, 'a smart shutdown ends');
ok($_->poll_query_until('postgres', q{SELECT link_state = 'down' FROM tcs.status}), $_->name . ' knows that')
  foreach ($often, $seldom);
like(log_since($_, shift @log), qr/no usable answer from the primary: .*the database system is shutting down/,
	'... and why')
  foreach ($often, $seldom);

$primary->start;
both_ask('started again');

# A connection for redirects, used again and again.
pause_replay($often);
$primary->safe_psql('postgres', q{UPDATE t SET v = 'new'});

my $client = TcsWire->new($primary);
my $session = TcsWire->new($often, options => '-c tcs.read_level=strong -c tcs.max_wait=0 -c tcs.fallback=redirect');
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

is($session->ok_query('SELECT v FROM t'), 'new', 'a redirected read');
command_ok([ $primary->installed_command('pg_ctl'), '-D', $primary->data_dir, '-m', 'smart', '-W', 'stop' ],
	'a smart shutdown is asked for while there is another client');

my $result;

do { $result = ($session->query('SELECT v FROM t'))[-1] } while ($result->{state} eq '00000' && time < $deadline);
like($result->{state}, qr/^TC00[14]$/, '... redirects end');
like($result->{error}{D} // '', qr/the database system is shutting down/, '... and say why');
while ($client->ok_query($clients) > 0 && time < $deadline)
{
	$client->ok_query('SELECT pg_sleep(0.05)');
}
is($client->ok_query($clients), 0, '... and there is nobody but the client left');
$primary->stop('fast');
$_->disconnect foreach ($client, $session);

done_testing();
