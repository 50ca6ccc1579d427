# test/perl/TcsSnapshots.pm
#
# A primary and a standby for tests of level "snapshot", with functions and
# procedures that read twice, and a commit that can be made between the two reads.
#
# snapshot_nodes() fills the variables: nodes $primary and $standby; $writer, a
# client of the primary; $value, that of the last write to tables t and c, which
# bump() makes.

package TcsSnapshots;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsTest;
use TcsWire;

our @EXPORT = qw($primary $standby $writer $value $snapshot snapshot_nodes bump
  snapshot_client notice_of commit_between);

our $snapshot = '-c tcs.read_level=snapshot';
our ($primary, $standby, $writer);
our $value = 0;

# Returns when the standby has all and an answer of the primary.
sub snapshot_nodes
{
	($primary, $standby) = new_pair();

	$primary->safe_psql(
		'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE TABLE c (n int);
INSERT INTO c VALUES (0);
CREATE TABLE other (v int);
CREATE TABLE plain (v int);
CREATE FUNCTION one_read() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT v FROM t); END$$;
-- two reads; the test can do something between them while it holds the lock
CREATE FUNCTION two_reads() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE a text; b text;
BEGIN
	a := one_read();
	PERFORM pg_advisory_lock(7), pg_advisory_unlock(7);
	b := (SELECT v FROM t);
	RETURN a || ' ' || b;
END$$;
CREATE PROCEDURE p_two_reads(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := two_reads(); END$$;
-- a standby's only way to show what a DO block has read
CREATE FUNCTION tell(text) RETURNS void LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RAISE NOTICE '%', $1; END$$;
CREATE PROCEDURE p_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; r := r || ' ' || one_read(); END$$;
CREATE PROCEDURE p_commits_rr(INOUT r text) LANGUAGE plpgsql AS $$BEGIN
	r := 'then';
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
	r := r || ' ' || one_read();
END$$;
CREATE PROCEDURE p_only_commits(INOUT r text) LANGUAGE plpgsql AS
	$$BEGIN r := one_read(); COMMIT; END$$;
CREATE MATERIALIZED VIEW mv AS SELECT v FROM t;
});
	$writer = TcsWire->new($primary);

	wait_for_replay($primary, $standby);
	wait_for_answer($standby);
	return;
}

# A commit that every reader can see; where $node is the standby, it has been replayed
# when this returns.  Returns the token for it.
sub bump
{
	my ($node) = @_;

	$value++;
	$writer->ok_query("UPDATE t SET v = $value; INSERT INTO c VALUES ($value)");
	wait_for_replay($primary, $standby)
	  if defined $node && $node == $standby;
	return $writer->parameter('tcs.session_token');
}

# A client of a node, at level snapshot if no other is given, for which the SQL has been
# run.
sub snapshot_client
{
	my ($node, $level, $set) = @_;
	my $client = TcsWire->new($node, options => '-c tcs.read_level=' . ($level // 'snapshot'));

	$client->ok_query($set) if defined $set;
	return $client;
}

# Text of the last notice that a client was sent.
sub notice_of
{
	my ($client) = @_;
	my @notices = grep { $_->{S} eq 'NOTICE' } $client->notices;

	return $notices[-1]{M};
}

# Sends what $send sends, which has read once when it waits for the lock; then a
# commit; then lets it go on.  Returns the results and the value before.
sub commit_between
{
	my ($node, $client, $send) = @_;
	my $holder = TcsWire->new($node, options => '-c tcs.read_level=eventual');
	my $before = $value;

	$holder->ok_query('SELECT pg_advisory_lock(7)');
	$send->($client);
	$client->flush;
	$holder->poll('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = '
		  . $client->pid)
	  or die 'it does not wait';
	bump($node);
	$holder->ok_query('SELECT pg_advisory_unlock(7)');
	my @results = $client->results;

	$holder->disconnect;
	return ($before, @results);
}

1;
