# test/t/430_linearizable_failover.pl
#
# Level "linearizable" through changes of the primary.  First a commit that only
# a standby outside of the quorum has replayed, under a primary that is cut off
# from the others and goes on to run after they have another one: nobody may
# ever return it, and the deposed primary, and the standby that follows it, must
# refuse rather than answer from the past.  Then a commit that has not come back,
# but is on the quorum, and was returned by a standby: after the failover nobody
# may miss it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsNodes;
use TcsResults;
use TcsTest;
use TcsWire;

my $read = 'SELECT v FROM t';
my $eventual = '-c tcs.read_level=eventual';
my $value = 0;

# standby3 is in no quorum
my ($old, $new, $two, $three) = new_cluster(
	standbys => 3,
	conf => "wal_retrieve_retry_interval = '100ms'\n");

$old->safe_psql(
	'postgres', q{
CREATE TABLE t (v int);
INSERT INTO t VALUES (0);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$});

# Without WAL these two can still ask, whoever is primary.
foreach my $node ($new, $two)
{
	$node->append_conf('postgresql.conf',
		sprintf q{tcs.primary_conninfo = 'host=%s port=%s dbname=postgres'},
		join(',', map { $_->host } ($old, $new, $two)),
		join(',', map { $_->port } ($old, $new, $two)));
	$node->reload;
}

# On every server that may become primary.
set_quorum($old, 'ANY 1 (standby1, standby2)', 2);
set_quorum($new, 'ANY 1 (primary, standby2)');
set_quorum($two, 'ANY 1 (primary, standby1)');
wait_for_replay($old, $_) foreach ($new, $two, $three);
wait_for_answer($_) foreach ($new, $two, $three);

sub impatient_client
{
	my ($node, $max_wait) = @_;

	return TcsWire->new($node,
		options => "-c tcs.read_level=linearizable -c tcs.max_wait=$max_wait");
}

# A linearizable read by some kinds of statements.
my @kinds = (
	$read, 'SELECT one_read()', "COPY ($read) TO STDOUT",
	"BEGIN ISOLATION LEVEL REPEATABLE READ; $read",
	"DO \$\$BEGIN PERFORM one_read(); END\$\$");

sub refused_at
{
	my ($what, $node, $state) = @_;
	my $c = impatient_client($node, 30);

	$state //= qr/TC004/;

	foreach my $kind (@kinds)
	{
		like((answers($c->query($kind)) =~ s/^[ \/]+//r), qr/^$state$/, "$what, " . $node->name . ": $kind");
		$c->query('ROLLBACK') if $c->status ne 'I';
	}
	$c->disconnect;
	return;
}

sub value_at
{
	my ($node) = @_;

	return read_at($node, $read, level => 'linearizable', max_wait => '60s');
}

sub write_at
{
	my ($node, @opt) = @_;

	$value++;
	return read_at($node, "UPDATE t SET v = $value", level => 'eventual', @opt);
}

sub poll_value
{
	my ($node, $what) = @_;

	$node->poll_query_until('postgres',
		"SELECT v = $what FROM t")
	  or die 'not replayed';
	return;
}

# That session $client waits for a quorum.
sub wait_until_it_waits
{
	my ($node, $client) = @_;

	$node->poll_query_until('postgres',
		"SELECT state = 'active' AND wait_event_type IN ('Extension', 'IPC') FROM pg_stat_activity WHERE pid = "
		  . $client->pid)
	  or die 'it does not wait';
	return;
}

write_at($old);
is(value_at($_), $value, 'all are served, ' . $_->name) foreach ($old, $new, $two, $three);


##
## A primary that is cut off
##

my $kept = $value;
my $lost = ++$value;
my $waiting_writer = TcsWire->new($old, options => $eventual);
my %patient;

cut_off($new, $two);
$waiting_writer->simple("UPDATE t SET v = $lost")->flush;
poll_value($three, $lost);
is(read_at($three, $read, level => 'strong'), $lost, 'strong returns what nobody else has');
refused_at('cut off', $_) foreach ($old, $new, $two, $three);

# These wait for a quorum that is going to have another primary.
foreach my $node ($old, $new, $two, $three)
{
	$patient{ $node->name } = impatient_client($node, -1);
	$patient{ $node->name }->simple($read)->flush;
	wait_until_it_waits($node, $patient{ $node->name });
}


##
## Another one is promoted
##

$new->promote;
is(answers($patient{standby1}->results), 'TC004', 'a read that waits while its standby is promoted is refused');
refused_at('promoted, alone', $new);
follow($two, $new);
{
	my ($result) = $patient{standby2}->results;

	is($result->{state}, 'TC004', 'a read that waits while its standby follows is refused');
	like($result->{error}{D}, qr/primary changed/, '... and told why');
	like($result->{error}{H}, qr/Retry/, '... and what to do');
}
is(value_at($new), $kept, 'the new primary does not have what nobody confirmed');
is(value_at($two), $kept, '... nor has its standby');
write_at($new);
is(value_at($_), $value, 'what is written there is read, ' . $_->name) foreach ($new, $two);

# The former one still runs, and has no idea.
is(read_at($old, $read, level => 'strong'), $kept, 'strong answers from the past');
is(read_at($three, $read, level => 'strong'), $lost, '... or what is lost');
refused_at('deposed', $_) foreach ($old, $three);
ok(!$patient{ $_->name }->answered, '... who waits there has no answer, ' . $_->name) foreach ($old, $three);

# Cancelled, the commit is visible where it was written, and lost all the same.
read_at($old, 'SELECT pg_cancel_backend(' . $waiting_writer->pid . ')');
is(answers($waiting_writer->results), '', 'its commit is not waited for any more');
is(read_at($old, $read, level => 'strong'), $lost, '... strong returns it');
refused_at('deposed', $_) foreach ($old, $three);

# It has come to know of its successor's quorum, which does not follow it.
ok(!$patient{ $_->name }->answered, '... there still is no answer, ' . $_->name) foreach ($old, $three);

# Pointed to the new primary, a standby that has WAL of the former one beyond
# the fork reports that as flushed, though it can never be of use.  The quorum of
# the new one is made of it here, so nothing may be confirmed.
$old->safe_psql('postgres',
	q{SET tcs.read_level = eventual; SET synchronous_commit = local;
	CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 1000)});
wait_for_replay($old, $three);
$old->stop('immediate');
is(($_->results)[-1]{state}, '08006', 'the former primary is gone') foreach ($patient{primary});
is(psql_err($three, $read, level => 'linearizable', max_wait => 30), 'TC004', '... its standby refuses');
set_quorum($new, 'ANY 1 (primary, standby3)');
{
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $position = log_position($three);
	my $c = impatient_client($new, 5);
	my $on_two = impatient_client($two, 5);
	my %seen;

	follow($three, $new);
	while (log_since($three, $position) !~ /forked off current database system timeline/)
	{
		$seen{ answers($c->query($read)) }++;
		$seen{ answers($on_two->query($read)) }++;
		die 'standby3 does not try to follow' if time > $deadline;
	}
	for (1 .. 50)
	{
		$seen{ answers($c->query($read)) }++;
		$seen{ answers($on_two->query($read)) }++;
	}
	is(join(' ', sort keys %seen), 'TC004', 'a standby on another history confirms nothing');
	$_->disconnect foreach ($c, $on_two);
	is((($patient{standby3}->answered ? answers($patient{standby3}->results) : 'TC004')),
		'TC004', '... nor is it served itself');
}
set_quorum($new, 'ANY 1 (primary, standby2)', 1);
is(value_at($_), $value, 'the present quorum does, ' . $_->name) foreach ($new, $two);
$three->stop('immediate');
$patient{$_}->disconnect foreach keys %patient;


##
## What was returned is not missed after a failover
##

# standby1 is primary, standby2 and standby4 follow.  standby2 counts, and flushes
# what it does not replay; the commit waits for that, while standby4 has it.
my $four = new_standby($new, 'standby4', conf => "synchronous_standby_names = 'ANY 1 (standby1, standby2)'\n");

set_quorum($new, 'FIRST 1 (standby2, standby4)', 2);
set_quorum($two, 'ANY 1 (standby1, standby4)');
wait_for_answer($four);
write_at($new);
is(value_at($_), $value, 'served, ' . $_->name) foreach ($new, $two, $four);
{
	my $before = $value++;
	my $writer = TcsWire->new($new, options => $eventual);

	pause_replay($two);
	$writer->simple("SET synchronous_commit = remote_apply; UPDATE t SET v = $value")->flush;
	poll_value($four, $value);
	is(value_at($four), $value, 'a commit that has not come back is returned by a standby');
	is(psql_err($new, $read, level => 'linearizable', max_wait => 50), 'TC001',
		'... the primary does not deny it');
	is(read_at($new, $read, level => 'strong'), $before, '... which strong would');
	my $waits = impatient_client($two, -1);

	$waits->simple($read)->flush;
	wait_until_it_waits($two, $waits);
	$new->stop('immediate');
	refused_at('no primary', $four);
	is(psql_err($two, $read, level => 'linearizable', max_wait => 30), 'TC004',
		'... or where it is not replayed');
	$two->promote;
	# replayed on the way to the promotion, it may be served as confirmed by the former
	like(answers($waits->results), qr/^(?:TC004|$value)$/, '... a read that waits for it does not miss it');
	is(read_at($two, $read, level => 'eventual'), $value, 'the new primary has it');
	refused_at('nobody follows yet', $two);
	# which is behind the new primary, once its worker has found that one
	refused_at('nobody follows yet', $four, qr/TC00[14]/);
	follow($four, $two);
	is(value_at($_), $value, 'nobody misses it, ' . $_->name) foreach ($two, $four, $two);
	write_at($two);
	is(value_at($_), $value, '... nor what comes next, ' . $_->name) foreach ($four, $two);
	$_->disconnect foreach ($writer, $waits);
}

# The former primary comes back, and does not know.  Nobody follows it.
{
	$new->start;
	refused_at('deposed, after a restart', $new);
	is(value_at($_), $value, '... the others do not care, ' . $_->name) foreach ($two, $four);
	$new->stop('immediate');
}

done_testing();
