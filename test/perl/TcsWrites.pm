# test/perl/TcsWrites.pm
#
# Writes whose value says which of them a reader has seen, and positions of WAL.
#
#     my $value = 0;
#     my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');
#     my $token = $write_next->($primary);
#     is(read_at($standby, 'SELECT max(v) FROM t', token => $token), $value);

package TcsWrites;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;

use TcsTest;

our @EXPORT = qw(counted_write last_write lsn_number insert_lsn wal_records);

# counted_write(\$value, $sql)
#
# Returns a function that makes the next write.  It is given a node, with options of
# write_token, or a TcsWire client.  It adds 1 to $value, runs $sql with the new
# value in it (a format of sprintf), and returns the token.  It returns when the
# commit does.
sub counted_write
{
	my ($value, $sql) = @_;

	return sub {
		my ($writer, %opt) = @_;

		$$value++;
		my $statement = sprintf($sql, $$value);

		return write_token($writer, $statement, %opt) if !$writer->isa('TcsWire');
		$writer->ok_query($statement);
		return $writer->parameter('tcs.session_token');
	};
}

# (token, position) of what a TcsWire client of the primary wrote last: what its
# session was told, and the end of the WAL that is flushed.
sub last_write
{
	my ($writer) = @_;

	return ($writer->parameter('tcs.session_token'),
		$writer->ok_query('SELECT pg_current_wal_flush_lsn()'));
}

# A position of WAL as a number; 0 for "".
sub lsn_number
{
	my ($lsn) = @_;
	my ($high, $low) = split m{/}, $lsn;

	return (hex($high || 0) << 32) + hex($low // 0);
}

# Where the next record of WAL begins, as a number, as a TcsWire client sees it.
sub insert_lsn
{
	my ($client) = @_;

	return lsn_number($client->ok_query('SELECT pg_current_wal_insert_lsn()'));
}

# The records of WAL between two positions, as pg_waldump shows them: first undef, or
# what it says when it fails; then [ position as a number, whether the record ends a
# transaction ] for each.
sub wal_records
{
	my ($node, $from, $to) = @_;
	my ($out, $err) = ('', '');
	my $dumped = IPC::Run::run(
		[ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to ],
		'>', \$out, '2>', \$err);
	my @records;

	foreach my $line (split /\n/, $out)
	{
		next if $line !~ m{^rmgr: (\w+).* lsn: ([0-9A-F]+/[0-9A-F]+), .* desc: (\w+)};
		my ($rmgr, $lsn, $desc) = ($1, $2, $3);

		push @records,
		  [ lsn_number($lsn), $rmgr eq 'Transaction' && $desc =~ /^(COMMIT|ABORT)/ ];
	}
	return ($dumped ? undef : "failed: $err", @records);
}

1;
