# test/perl/TcsQuorum.pm
#
# A primary and three standbys, of which the first two are a quorum and the third
# is in none, for tests of level "linearizable". Commits can be kept from being
# confirmed.
#
# quorum_nodes() fills the variables: nodes $primary, $one, $two, $three; $writer
# and $watch, clients of the primary, and $look, one of the third standby, all at
# level eventual; $value, that of the last write to table t, which $write_next
# makes.

package TcsQuorum;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsTest;
use TcsWire;
use TcsWrites;

our @EXPORT = qw($quorum $eventual $primary $one $two $three $writer $look $watch $value
  $write_next quorum_nodes hang_commit free_commit linearizable_client
  answers_and_rows wait_until_waiting rounds_between inserted);

our $quorum = 'ANY 1 (standby1, standby2)';
our $eventual = '-c tcs.read_level=eventual';
our ($primary, $one, $two, $three, $writer, $look, $watch);
our $value = 0;
our $write_next = counted_write(\$value, 'UPDATE t SET v = %d');

# Returns when the quorum is in force and all standbys have an answer of the primary.
sub quorum_nodes
{
	($primary, $one, $two, $three) =
	  new_cluster(standbys => 3, conf => "wal_retrieve_retry_interval = '100ms'\n");

	$primary->safe_psql(
		'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE TABLE u (v int);
INSERT INTO u VALUES (0);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$;
-- two reads; the test can do something between them while it holds the lock
CREATE FUNCTION two_reads() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a text;
BEGIN
	a := one_read();
	PERFORM pg_advisory_lock(7), pg_advisory_unlock(7);
	RETURN a || ' ' || (SELECT v FROM t);
END$$;
CREATE PROCEDURE p_two_reads(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := two_reads(); END$$;
CREATE PROCEDURE p_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; r := r || ' ' || one_read(); END$$;
-- a standby's only way to show what a DO block has read
CREATE FUNCTION tell(text) RETURNS void LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RAISE NOTICE '%', $1; END$$;
-- may run in a parallel worker, where each of its statements has its own snapshot
CREATE FUNCTION parallel_reads(int) RETURNS text LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
DECLARE a text;
BEGIN
	a := (SELECT v FROM t);
	PERFORM pg_advisory_lock_shared(7);
	RETURN a || ' ' || (SELECT v FROM t);
END$$;
CREATE FUNCTION u_returning() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$DECLARE r int; BEGIN UPDATE u SET v = (SELECT v FROM t) RETURNING v INTO r; RETURN r; END$$;
});

	# The other way for a standby to ask: an ordinary connection.
	$two->append_conf('postgresql.conf',
		sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, $primary->connstr));
	$two->reload;
	set_quorum($primary, $quorum, 2);
	wait_for_replay($primary, $_) foreach ($one, $two, $three);
	wait_for_answer($_) foreach ($one, $two, $three);

	$writer = TcsWire->new($primary, options => $eventual);
	$look = TcsWire->new($three, options => $eventual);
	$watch = TcsWire->new($primary, options => $eventual);
	return;
}

# Sends a commit that nobody confirms.  Returns when standby3 has replayed it.
sub hang_commit
{
	stop_receiver($one, $two);
	$value++;
	$writer->simple("UPDATE t SET v = $value")->flush;
	$look->poll("SELECT v = $value FROM t") or die 'not replayed';
	return;
}

# Lets it be confirmed, and waits until it comes back.
sub free_commit
{
	continue_receiver($one, $two);
	my ($result) = $writer->results;

	die TcsWire::describe_result($result) if $result->{state} ne '00000';
	return;
}

# A client of a node, at level linearizable if no other is given, for which the SQL has
# been run.
sub linearizable_client
{
	my ($node, $set, $level) = @_;
	my $client =
	  TcsWire->new($node, options => '-c tcs.read_level=' . ($level // 'linearizable'));

	$client->ok_query($set) if defined $set;
	return $client;
}

# Rows or SQLSTATE of each result.  Rows that went out before an error did go
# out, so they are shown as well.
sub answers_and_rows
{
	return join(' / ',
		map {
			$_->{state} eq '00000'
			  ? TcsWire::rows_text($_)
			  : join(' ', $_->{state}, grep { length } TcsWire::rows_text($_), $_->{copy} // '')
		} @_);
}

# Returns when sessions of a node wait for a quorum.
sub wait_until_waiting
{
	my ($node, @clients) = @_;
	my $session = TcsWire->new($node, options => $eventual);

	$session->poll(
		sprintf q{SELECT count(*) = %d FROM pg_stat_activity WHERE state = 'active'
			AND wait_event_type = 'Extension' AND pid IN (%s)},
		scalar @clients, join(', ', map { $_->pid } @clients))
	  or die 'they do not wait';
	$session->disconnect;
	return;
}

# How many rounds have been begun between two positions of WAL.
sub rounds_between
{
	my ($from, $to) = @_;
	my ($out, $err) = run_command(
		[
			$primary->installed_command('pg_waldump'), '--path',
			$primary->data_dir . '/pg_wal', '--start', $from, '--end', $to, '--rmgr', 'XLOG'
		]);

	return scalar(() = $out =~ /NOOP/g);
}

# Where the next record of WAL begins on the primary.
sub inserted { return $watch->ok_query('SELECT pg_current_wal_insert_lsn()'); }

1;
