# test/t/570_redirect_hosts.pl
#
# A redirect server with several hosts.  A host that answers and is not the primary
# is left for the next one: a primary that was deposed and still runs, a standby,
# one of another cluster, one that does not admit the role, one that says nothing.
# A deposed primary never serves a read.  Which host was the primary is remembered
# for all sessions, until another one is.  A redirect that fails says why, in
# tcs.last_read, in tcs.stat_reads, and once in the log.
#
# Replay stands still on the node that is read from: "new" comes from the primary,
# "old" is what a standby or a deposed primary has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsNodes;
use TcsProxy;
use TcsResults;
use TcsTest;
use TcsWire;

my $read = 'SELECT v FROM t';
my $secret = 'tr0ub4dor';

my ($first, $reader, $second, $third) = new_cluster(
	standbys => 3,
	conf => q{
wal_log_hints = on
log_connections = on
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});
my $other = new_primary('other');

$other->safe_psql('postgres', q{CREATE TABLE t (v text); INSERT INTO t VALUES ('foreign')});

# They accept connections, and never say a word.
my @silent = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 50) } 1 .. 3;

# A name that has two addresses, for the reader: on the first is the deposed primary,
# on the second, the new one.  Their port is the same.
my $resolver = PostgreSQL::Test::Utils::tempdir_short() . '/resolver.so';
my $problem = build_module($resolver, <<'EOC');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>
#include <string.h>

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **) =
		dlsym(RTLD_NEXT, "getaddrinfo");
	struct addrinfo *last;
	int			rc;

	if (name == NULL || strcmp(name, "two-addresses.invalid") != 0)
		return real(name, service, hints, result);
	rc = real("127.0.0.1", service, hints, result);
	if (rc != 0)
		return rc;
	for (last = *result; last->ai_next; last = last->ai_next)
		;
	return real("127.0.0.2", service, hints, &last->ai_next);
}
EOC
my @proxies = (TcsProxy->new($first->host, $first->port));

push @proxies, TcsProxy->new($second->host, $second->port, listen => '127.0.0.2', on => $proxies[0]->port);

END
{
	local $?;
	$_->stop foreach grep { $_->{pid} } @proxies;
}

if (!$problem)
{
	local $ENV{LD_PRELOAD} = $resolver;
	$reader->restart;
}

# OPTIONS of a server with these hosts: nodes, listeners, or [host, port].
# What tcs.last_read says: why a read was not served at once, and why the primary did
# not serve it.
my $reasons = q{concat_ws('; ', reason, 'not redirected: ' || redirect_detail)};
my $why = "SELECT $reasons FROM tcs.last_read";
my $what_and_why =
  "SELECT concat_ws(': ', concat_ws(' to ', outcome, nullif(served_level, level)), $reasons) FROM tcs.last_read";

sub hosts
{
	my ($more, @hosts) = @_;
	my @pairs = map {
		    ref $_ eq 'ARRAY' ? $_
		  : $_->isa('IO::Socket') ? [ '127.0.0.1', $_->sockport ]
		  : [ $_->host, $_->port ]
	} @hosts;

	return join(', ',
		q{host '} . join(',', map { $_->[0] } @pairs) . q{'},
		q{port '} . join(',', map { $_->[1] } @pairs) . q{'}, $more || ());
}

my $waits = q{connect_timeout '1'};
my %servers = (
	deposed_first => hosts('', $first, $second, $third),
	deposed_last => hosts('', $third, $second, $first),
	deposed_alone => hosts('', $first),
	all_wrong => hosts(q{target_session_attrs 'any'}, $other, $first, $reader),
	one_by_one => hosts(q{target_session_attrs 'any'}, $other, $reader, $first, [ $first->host, 1 ], $second, $third),
	silent_first => hosts($waits, @silent, $second, $third),
	silent_shares => hosts('', @silent, $second, $third),
	all_silent => hosts($waits, @silent),
	unknown_name => hosts('', [ 'no-such-host.invalid', 1 ], $second, $third),
	wrong_counts => q{host 'a,b', port '1,2,3'},
	two_addresses => hosts('', [ 'two-addresses.invalid', $proxies[0]->port ]),
	and_a_name => hosts('', [ $first->host, 1 ], [ 'two-addresses.invalid', $proxies[0]->port ]),
	moving => hosts('', $first, $second));

redirect_to($first, options => $servers{deposed_first});
$first->safe_psql(
	'postgres',
	join('',
		map { "CREATE SERVER $_ FOREIGN DATA WRAPPER tcs_fdw OPTIONS ($servers{$_});\n"
			  . "CREATE USER MAPPING FOR CURRENT_USER SERVER $_;\n" } sort keys %servers)
	  . qq{CREATE TABLE t (v text); INSERT INTO t VALUES ('old');
		CREATE ROLE app LOGIN PASSWORD '$secret'; CREATE ROLE monitor IN ROLE pg_read_all_stats LOGIN;
		GRANT SELECT ON t TO app;
		CREATE USER MAPPING FOR app SERVER deposed_first OPTIONS (password '$secret');
		CREATE USER MAPPING FOR app SERVER tcs_primary OPTIONS (password '$secret')});
wait_for_replay($first, $_) foreach ($reader, $second, $third);

# Passwords of one role are asked for; where replay is paused, no role is gated.
my $look = TcsWire->new($reader, options => '-c tcs.read_level=eventual');

sub session_by
{
	my ($server, %opt) = @_;
	my $client = TcsWire->new($reader, %opt);

	$client->ok_query("SET tcs.redirect_server = '$server'") if $server;
	return $client;
}

sub answer_by
{
	my ($server, %set) = @_;
	my $client = session_by($server);

	$set{read_level} //= 'strong';
	$client->ok_query("SET tcs.$_ = '$set{$_}'") foreach sort keys %set;
	my $answer = described($client, $read);
	my $reason = $client->ok_query($why);

	$client->disconnect;
	return wantarray ? ($answer, $reason) : $answer;
}

# How many connections of redirects a node has seen.
sub visits
{
	my ($node, $from) = @_;

	return scalar(() = log_since($node, $from) =~ /connection authorized: .*application_name=tcs\b/g);
}

# The second node becomes primary beside the first one, which runs on.  The reader
# has received nothing that the second one has not, and receives no more from the
# first one, which only we let write: bgwriter would, too.
sub depose_first
{
	my $bgwriter = $first->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});

	kill('STOP', $bgwriter);
	wait_for_replay($first, $_) foreach ($second, $third);
	$look->poll("SELECT pg_last_wal_receive_lsn() >= '" . current_lsn($first) . "'") or die 'the reader lags';
	$second->promote;
	foreach my $node ($reader, $third)
	{
		$node->enable_streaming($second);
		$node->reload;
	}
	$first->poll_query_until('postgres',
		'SELECT count(pg_terminate_backend(pid)) = 0 FROM pg_stat_replication') or die 'walsenders go on';
	$look->poll('SELECT count(*) = 0 FROM pg_stat_wal_receiver') or die 'the WAL receiver goes on';
	kill('CONT', $bgwriter);
	return;
}


##
## Before any failover
##

pause_replay($reader);
$first->safe_psql('postgres', q{UPDATE t SET v = 'first'});

my $kept = session_by('moving');

$kept->ok_query(q{SET tcs.read_level = 'strong'});
is(answer_by('deposed_first'), 'first', 'the first host is the primary');
is(answer_by('deposed_last'), 'first', '... or the last one');
is(described($kept, $read), 'first', 'a session that keeps its connection');


##
## A deposed primary that runs on
##

# The reader asks the new primary, and has replayed nothing of the new timeline.
depose_first();
$second->safe_psql('postgres', 'SELECT pg_switch_wal()');
my $lsn = current_lsn($second);

$second->safe_psql('postgres', q{UPDATE t SET v = 'new'});
$first->safe_psql('postgres', q{UPDATE t SET v = 'stale'});
$look->poll("SELECT link_state = 'up' AND primary_lsn > '$lsn' FROM tcs.status") or die 'the new primary was not asked';
is($look->ok_query('SELECT timeline_id FROM tcs.status'), '1', 'nothing of the new timeline_id is replayed');

my ($answer, $reason) = answer_by('deposed_alone');

like($answer, qr/^TC00[14]: .*not redirected: .*the redirect server is not the primary any more: It is on timeline 1/,
	'a deposed primary serves nothing, though replay is on its timeline');
like($reason, qr/; not redirected: 55000: the redirect server is not the primary any more$/, '... tcs.last_read says why');
is(described($kept, $read), 'new', 'a connection that was kept to it: the next host serves');
is(described($kept, $read), 'new', '... and goes on');

my $log = log_position($first);

is(answer_by('deposed_first'), 'new', 'a deposed primary is the first host: the next one serves');
is(visits($first, $log), 1, '... it was asked');
is(answer_by('deposed_first'), 'new', '... and again') for 1 .. 5;
is(visits($first, $log), 1, '... but not again: the primary is remembered for all sessions');
is(answer_by('deposed_last'), 'new', 'in another order');

# the new timeline is replayed
resume_replay($reader);
wait_for_replay($second, $reader);
pause_replay($reader);
$second->safe_psql('postgres', q{UPDATE t SET v = 'newer'});
like(scalar(answer_by('deposed_alone')), qr/the redirect server is not the primary any more: It is on timeline 1/,
	'replay has gone on: the deposed primary serves nothing');
is(answer_by('deposed_first'), 'newer', '... and the next host does');


##
## Whatever else a host can be
##

is(answer_by('one_by_one'), 'newer', 'another cluster, a standby, a deposed primary, nobody: the next one serves');
is(answer_by('unknown_name'), 'newer', 'a name that is not known');
like(scalar(answer_by('wrong_counts')), qr/could not match 3 port numbers to 2 hosts/, 'lists that do not fit');
($answer, $reason) = answer_by('all_wrong');
like($answer, qr/of another database cluster.*timeline 1.*but a standby/s, 'all hosts are wrong: each has its reason');
like($reason, qr/not redirected: 55000: /, '... tcs.last_read has the SQLSTATE');
is(answer_by('silent_first', redirect_timeout => '1h'), 'newer', 'hosts that say nothing: connect_timeout counts for each');
is(answer_by('silent_shares', redirect_timeout => '2s'), 'newer', '... each gets its share of tcs.redirect_timeout');
($answer, $reason) = answer_by('all_silent', redirect_timeout => '300ms');
like($answer, qr/no connection within \d+ ms.*no connection within/s, '... none of them answers');
like($reason, qr/not redirected: 08001: the redirect server has not answered in time/, '... tcs.last_read says so');

SKIP:
{
	skip "no name with two addresses: $problem", 4 if $problem;

	$log = log_position($first);
	is(answer_by('two_addresses'), 'newer', 'two addresses of a name: the one that is not the primary is left');
	is(answer_by('two_addresses'), 'newer', '... again');
	is(visits($first, $log), 1, '... the other one is remembered');
	is(answer_by('and_a_name'), 'newer', '... and so it is in a list');
}


##
## One that does not admit the role
##

my $hba = slurp_file($first->data_dir . '/pg_hba.conf');

unlink($first->data_dir . '/pg_hba.conf');
$first->append_conf('pg_hba.conf', "local all app reject\n$hba");
$first->reload;
$first->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_hba_file_rules WHERE 'app' = ANY (user_name)});

foreach my $node ($second, $third)
{
	my $now = slurp_file($node->data_dir . '/pg_hba.conf');

	unlink($node->data_dir . '/pg_hba.conf');
	$node->append_conf('pg_hba.conf', "local all app scram-sha-256\n$now");
	$node->reload;
	$node->safe_psql('postgres', 'SELECT 1');
}
$log = log_position($second);

my $app = TcsWire->new($reader, user => 'app', options => '-c tcs.read_level=strong');

is(described($app, $read), 'newer', 'a host that does not admit the role is left for the next');
$app->disconnect;


##
## Roles change
##

# The next primary is the third node; then the second again.  The reader follows.
sub switch_over
{
	my ($old, $new, $value) = @_;

	resume_replay($reader);
	wait_for_replay($old, $_) foreach ($new, $reader);
	$old->stop;
	$new->promote;
	$reader->enable_streaming($new);
	$reader->reload;
	$old->enable_streaming($new);
	$old->append_conf('standby.signal', '');
	$old->start;
	wait_for_replay($new, $_) foreach ($reader, $old);
	pause_replay($reader);
	$new->safe_psql('postgres', "UPDATE t SET v = '$value'");
	return;
}

switch_over($second, $third, 'third');
is(answer_by('deposed_first'), 'third', 'after a switchover, the new primary is found');
switch_over($third, $second, 'back');
is(answer_by('deposed_first'), 'back', 'after a switchback, too');
$log = log_position($third);
is(answer_by('deposed_first'), 'back', '... and remembered');
is(visits($third, $log), 0, '... nobody asks the former one');


##
## What is told of a redirect that fails
##

sub failed
{
	return $look->ok_query(q{SELECT redirects_failed FROM tcs.stat_reads WHERE level = 'session'});
}

my $failed = failed();
my $token = write_token($second, q{UPDATE t SET v = 'told'});
my $outage = qr/LOG: .*tcs: reads cannot be redirected to server "tcs_primary": (.*)/;
my $over = qr/LOG: .*tcs: reads are redirected to server "tcs_primary" again/;

sub reads_of
{
	my ($user) = @_;
	my $client = TcsWire->new($reader, user => $user // scalar getpwuid($<));

	$client->ok_query("SET tcs.session_token = '$token'");
	return $client;
}

my @clients = (reads_of(), reads_of('app'));

is(described($_, $read), 'told', 'redirects work') foreach @clients;
is($clients[0]->ok_query($why), 'behind', '... and nothing else is said');
is(failed(), $failed, '... or counted');

$log = log_position($reader);
$second->stop('immediate');
foreach my $round (1 .. 3)
{
	foreach my $client (@clients)
	{
		like(described($client, $read), qr/^TC001: .*not redirected/, 'the primary is gone: refused');
		my $told = $client->ok_query($why);

		like($told, qr/^behind; not redirected: (08001|28000|55000): \w/, '... with the reason in tcs.last_read');
		unlike($told, qr/\Q@{[$second->host]}\E|\Q@{[$second->port]}\E|app|$secret/, '... without hosts and roles');
	}
}
is(failed(), $failed + 6, 'tcs.stat_reads counts each');
is(scalar(() = log_since($reader, $log) =~ /$outage/g), 1, 'the log tells once');
like(log_since($reader, $log), qr/$outage/, '... and why');
is(scalar(() = log_since($reader, $log) =~ /$over/g), 0, '... and nothing of an end');

# a weaker level, and a read that is served after all
$clients[0]->ok_query(q{SET tcs.fallback = 'redirect, eventual'});
is(described($clients[0], $read), 'third', 'served at a weaker level');
like($clients[0]->ok_query($what_and_why),
	qr/^downgraded to eventual: behind; not redirected: \w{5}: /, '... with the reason');
$clients[0]->ok_query(q{SET tcs.fallback = 'redirect'; SET tcs.max_wait = '1h'});
$clients[0]->simple($read)->flush;
$look->poll('SELECT waiting_sessions = 1 FROM tcs.status') or die 'nobody waits';
resume_replay($reader);
is(TcsWire::describe_result(($clients[0]->results)[-1]), 'told', 'served late');
like($clients[0]->ok_query($what_and_why),
	qr/^waited: not redirected: \w{5}: /, '... with the reason');
is($clients[0]->ok_query("$read; SELECT reason IS NULL AND redirect_detail IS NULL FROM tcs.last_read"), 't', '... which is not that of the next read');
is(scalar(() = log_since($reader, $log) =~ /$outage/g), 1, 'the log has told once');

$second->start;
pause_replay($reader);
$token = write_token($second, q{UPDATE t SET v = 'again'});
foreach my $client (@clients, reads_of())
{
	$client->ok_query("SET tcs.session_token = '$token'");
	is(described($client, $read), 'again', 'the primary is back: redirected');
}
is(scalar(() = log_since($reader, $log) =~ /$over/g), 1, 'the log tells once that it works again');

# what is wrong with one role
my $bad = TcsWire->new($reader, user => 'monitor');

$bad->ok_query("SET tcs.session_token = '$token'");
foreach (1 .. 3)
{
	like(described($bad, $read), qr/^TC001: .*has no user mapping for "monitor"/, 'a role without a mapping is refused');
	like($bad->ok_query($why), qr/^behind; not redirected: 55000: .*not set up for this role$/, '... and told why');
	is(described($clients[0], $read), 'again', '... another one is not');
}
is(scalar(() = log_since($reader, $log) =~ /tcs: reads of role "monitor" cannot be redirected to server "tcs_primary"/g),
	1, 'the log tells of the role once');
is(scalar(() = log_since($reader, $log) =~ /$outage/g), 1, '... and nothing of the server');
# a role that pg_hba.conf of the primary rejects
my $admits = slurp_file($second->data_dir . '/pg_hba.conf');

sub second_admits_by
{
	my ($text, $condition) = @_;

	set_hba($second, "SELECT $condition FROM pg_hba_file_rules WHERE auth_method = 'reject'", $text);
	return;
}

second_admits_by("local all app reject\n$admits", 'count(*) = 1');
my $rejected = reads_of('app');

like(described($rejected, $read), qr/^TC001: .*pg_hba\.conf rejects connection/, 'a role that pg_hba.conf rejects is refused');
like($rejected->ok_query($why), qr/not redirected: 28000: the redirect server does not admit this role$/, '... and told why');
like(log_since($reader, $log), qr/tcs: reads of role "app" cannot be redirected/, '... and the log tells of the role');
is(scalar(() = log_since($reader, $log) =~ /$outage/g), 1, '... and not of the server');
second_admits_by($admits, 'count(*) = 0');

# A token that the primary refuses is no outage, also where another host is down.
$third->stop('immediate');
$log = log_position($reader);
my ($own, $lost) = (reads_of(), TcsWire->new($reader));

$lost->ok_query("SET tcs.session_token = '" . token_with($token, written => 0x7fff0000) . "'");
like(described($lost, $read), qr/^TC001: .*not redirected: .*has written WAL only up to/s, 'a token that the primary refuses');
like($lost->ok_query($why),
	qr/not redirected: TC003: what the session token names is not part of the history/, '... and the reason is the token');
is(scalar(() = log_since($reader, $log) =~ /cannot be redirected/g), 0, '... and no outage of the redirect server');
is(described($own, $read), 'again', '... for others are redirected');
$second->stop('immediate');
like(described($own, $read), qr/^TC001: .*not redirected/, 'the primary is gone');
is(scalar(() = log_since($reader, $log) =~ /$outage/g), 1, '... which the log tells');
unlike(slurp_file($reader->logfile), qr/tcs: .*$secret/, 'no password in the log');

done_testing();
