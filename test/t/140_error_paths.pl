# test/t/140_error_paths.pl
#
# Whatever has failed, wherever it was, the next read of a standby that lags is not
# stale.  Ways to fail (statement kinds, places, protocols) are combined with ways
# to read (TcsFailures.pm and TcsWays.pm
# have the tables), and replay stands still behind a
# write meanwhile: the read has to be refused, at "strong", with a token, with a
# hint, by a rule.  Once more when replay has gone on: the same reads show the
# write, and each counts once, so what is within a statement is not taken for one
# of the client.  On a primary without synchronous standbys, where "linearizable"
# and write level "quorum" cannot be had, the same.
#
# A row is one way to fail; what is named are the reads that were wrong after it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsFailures;
use TcsTest;
use TcsWays;
use TcsWire;

my ($primary, $standby) = new_pair();
my $asserts = $primary->safe_psql('postgres', 'SHOW debug_assertions') eq 'on';
my %writer;
my %oid;
my $now = 0;

foreach my $db ('postgres', 'ruled')
{
	$primary->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
	$writer{$db} = TcsWire->new($primary, dbname => $db);
	$writer{$db}->ok_query('CREATE EXTENSION IF NOT EXISTS tcs');
	$writer{$db}->ok_query(
		$db eq 'postgres' ? way_objects() : way_objects() =~ s/^CREATE ROLE.*$//mr);
	$oid{$db}{$_} = $writer{$db}->ok_query("SELECT '$_'::regproc::oid")
	  foreach qw(reads reads_by_do fails catches);
}
$writer{ruled}->ok_query("SELECT tcs.set_rule('t', 'strong')");

# What refuses a read that is not fresh enough, and a write that nobody confirms.
my %refused = map { $_ => 1 } qw(TC001 TC004 40001 55000 25001);
my %not_written = (55000 => 1);

# Ways to ask for freshness: start-up options, hint, database.
my $at_once = '-c tcs.max_wait=0 -c tcs.fallback=error';
my $quiet = '-c log_statement=none -c log_min_messages=fatal -c log_min_error_statement=panic';
my %modes = (
	strong => { options => '-c tcs.read_level=strong' },
	token => { options => '-c tcs.session_token={token}' },
	hint => { options => '-c tcs.read_level=eventual', hint => '/* tcs(strong) */' },
	rule => { options => '-c tcs.read_level=eventual', db => 'ruled' },
	linearizable => { options => '-c tcs.read_level=linearizable' },
	'hint on a primary' =>
	  { options => '-c tcs.read_level=eventual', hint => '/* tcs(linearizable) */' });
my $token;

# A session to combine in, at a node.
sub new_session
{
	my ($node, $mode, $other, %opt) = @_;
	my %mode = %{ $modes{$mode} };
	my $db = $mode{db} // 'postgres';
	my $options = $mode{options} =~ s/\{token\}/$token/r;
	my $s = {
		mode => $mode,
		oid => $oid{$db},
		other => $other,
		counts => $opt{counts},
		fill => {
			t => 't',
			now => $now,
			e => '/* tcs(eventual) */',
			h => $mode{hint} // '',
			w => '/* tcs(write_level=quorum) */'
		}
	};

	$options .= " $quiet";
	$options .= " $at_once" if !$opt{wait};
	$s->{c} = TcsWire->new($node, dbname => $db, options => $options);
	prepare_session($s);
	return $s;
}

# What is wrong with results that had to end in one of these states; '' if nothing.
sub not_ended_by
{
	my ($wanted, @results) = @_;
	my @states = split / /, error_states(@results);

	return '' if grep { $wanted->{$_} } @states;
	return "error @states" if @states;
	return 'not refused, shows '
	  . join(',', grep { $_ ne '' } map { TcsWire::rows_text($_) . ($_->{copy} // '') } @results);
}

sub not_refused { return not_ended_by(\%refused, @_); }
sub written { return not_ended_by(\%not_written, @_); }

# The same of one that had to show the last write.
sub not_shown
{
	my (@results) = @_;
	my ($error) = grep { $_->{state} ne '00000' } @results;
	my $shown = join ' ', map { TcsWire::rows_text($_) . ($_->{copy} // '') } @results;

	return TcsWire::describe_result($error) if $error;
	return $shown =~ /\b\d+\b/ && $shown !~ /rows=|loops/ && $shown !~ /\b$now\b/ ? "shows $shown" : '';
}

# How many reads were counted at level "strong" by now, and how many a way to read
# makes of it when it comes first.
my %times;

sub reads_counted
{
	my ($s) = @_;

	return $s->{other}->look("SELECT reads FROM tcs_internal.stat_reads() WHERE level = 'strong'");
}

# Has a failure failed as it should?
sub failed_otherwise
{
	my ($failure, $mode, @results) = @_;
	my $states = error_states(@results);
	my $expected = $failure->{fails};

	# there, all that reads is refused, and writes and functions read, too
	return '' if $mode eq 'linearizable' && $states ne '';
	return $states eq '' ? 'has not failed' : '' if !defined $expected;
	return '' if ref $expected ? $states =~ $expected : $states eq $expected;
	return "failed with '$states'";
}

# A failure, then a read; what is wrong.  $by: by which protocol the failure comes.
sub combine
{
	my ($s, $failure, $by, $read, $check) = @_;
	my @results = run_steps($s, $failure, $by);
	my $otherwise = $by eq 'pipeline' ? '' : failed_otherwise($failure, $s->{mode}, @results);

	leave_block($s->{c}) if !$failure->{inside};
	my $counted = $s->{counts} ? reads_counted($s) : 0;
	my $verdict = $check->(run_steps($s, $read));

	$counted = reads_counted($s) - $counted if $s->{counts};
	$times{ $read->{name} } //= $counted if $s->{counts};
	$verdict ||= "counts as $counted reads" if $s->{counts} && $counted != $times{ $read->{name} };
	leave_block($s->{c});
	return (
		$otherwise ne '' ? "$by: $otherwise" : (),
		$verdict ne '' ? "$by, then $read->{name}: $verdict" : ());
}

# The ways by which a failure may come.
sub protocols
{
	my ($failure) = @_;

	# several statements in one message are for the simple protocol alone
	return 'simple' if !$failure->{sql} || grep { /;(?! END)/ } @{ $failure->{sql} };
	return $failure->{inside} ? qw(simple extended) : qw(simple extended pipeline);
}

# One row, in a session of its own: a failure before each of the reads, by one
# protocol after the other.  $turn: which is first.
sub row
{
	my ($s, $failure, $turn, $reads, $check) = @_;
	my @protocols = protocols($failure);
	my @wrong;

	foreach my $read (@$reads)
	{
		next if $read->{plain} && $modes{ $s->{mode} }{hint};
		next if $failure->{inside} && !$read->{inside};
		push @wrong,
		  combine($s, $failure, $protocols[ $turn++ % @protocols ], $read, $check);
	}
	return @wrong;
}

# All rows of a mode.  Options:
#   wait      nothing is refused without a wait
#   counts    each read counts as often as in the first row, which has no failure
#   part      each failure is combined with every so many of the reads only
#   one       a session lives through all rows, until one was wrong
sub table
{
	my ($what, $node, $mode, $reads, $check, %opt) = @_;
	my $where = $node == $primary ? 'primary' : 'standby';
	my $other = TcsWire->new($node,
		dbname => $modes{$mode}{db} // 'postgres',
		options => '-c tcs.read_level=eventual');
	my $part = $opt{part} // 1;
	my ($turn, $began, $s) = (0, time);

	foreach my $failure (failures())
	{
		# an exception block at COMMIT: without tcs as well, an assertion of PostgreSQL 15 fails then
		next if $asserts && $failure->{name} =~ /^(?:WITH HOLD catches|deferred trigger(?: catches|, utility))/;
		my @some = map { $reads->[$_] } grep { ($_ + $turn) % $part == 0 } (0 .. $#$reads);

		next if $failure->{on} && $failure->{on} ne $where;
		next if $failure->{gated} && ($opt{wait} || $node == $primary && $failure->{slow});
		$s //= new_session($node, $mode, $other, %opt);
		my @wrong = row($s, $failure, $turn++, \@some, $check);

		is(join("\n", @wrong), '', "$what, after $failure->{name}");
		next if $opt{one} && !@wrong;
		$s->{c}->disconnect;
		$s = undef;
	}
	$s->{c}->disconnect if $s;
	$other->disconnect;
	note("$what: ", time - $began, ' s');
	return;
}

# A commit on the primary that a standby lags behind.
sub write_value
{
	$now++;
	$writer{$_}->ok_query("UPDATE t SET v = $now") foreach ('ruled', 'postgres');
	$token = $writer{postgres}->parameter('tcs.session_token');
	return;
}

my @reads = reads();

# What a function reads is compared only with a rule for its table, which asks for
# a level that no statement without one was checked for.
my @reads_by_rule = grep { !$_->{plain} && $_->{name} !~ /^(CALL|DO|planning)$/ } @reads;

wait_for_replay($primary, $standby);
wait_for_answer($standby);
pause_replay($standby);
write_value();
# In a session of its own each; then with sessions that have been through much.
my %one = (one => 1, part => 7);

table('lagging, strong', $standby, 'strong', \@reads, \&not_refused, part => 2);
table("lagging, $_", $standby, $_, \@reads, \&not_refused, %one) foreach qw(strong token hint rule);

resume_replay($standby);
wait_for_replay($primary, $standby);
table('fresh, strong', $standby, 'strong', \@reads, \&not_shown, wait => 1, counts => 1, %one);
table("fresh, $_", $standby, $_, \@reads, \&not_shown, wait => 1, %one) foreach qw(token hint);
table('fresh, rule', $standby, 'rule', \@reads_by_rule, \&not_shown, wait => 1, %one);

table("primary, $_", $primary, $_, \@reads, \&not_refused, %one)
  foreach ('linearizable', 'hint on a primary');
table('primary, write level', $primary, 'strong', [ writes_of_level() ], \&written, wait => 1, %one, part => 3);

# An error while the rules are read does not leave a session without any.
sub rules_that_could_not_be_read
{
	my $s = new_session($primary, 'rule', undef);
	my $holder = TcsWire->new($primary, dbname => 'ruled');
	my @reads = grep { $_->{name} eq 'prepared' } @reads;

	$writer{ruled}->ok_query("SELECT tcs.set_rule('t', 'linearizable')");
	is(not_refused(run_steps($s, $reads[0])), '', 'a rule is in force');
	$s->{c}->ok_query("SET lock_timeout = '5ms'");

	# the session's copy of the rules, and what it knows of the schema, is no more
	$writer{ruled}->ok_query("SELECT tcs.set_rule('w', 'linearizable')");
	$writer{ruled}->ok_query('ALTER SCHEMA tcs OWNER TO nobody_special; ALTER SCHEMA tcs OWNER TO CURRENT_USER');
	$holder->ok_query("BEGIN; LOCK TABLE $_ IN ACCESS EXCLUSIVE MODE")
	  foreach ('pg_namespace', 'pg_depend', 'pg_extension', 'tcs.rule');
	is(error_states(run_steps($s, $reads[0])), '55P03', 'the rules cannot be read');
	$holder->ok_query('ROLLBACK');
	is(not_refused(run_steps($s, $reads[0])), '', 'and are read again');
	$s->{c}->disconnect;
	$holder->disconnect;
	return;
}
rules_that_could_not_be_read();

done_testing();
