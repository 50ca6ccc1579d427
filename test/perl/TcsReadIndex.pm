# test/perl/TcsReadIndex.pm
#
# The read index of a primary, asked for as standbys do.

package TcsReadIndex;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;

our @EXPORT = qw(read_index);

# Start-up options of a session that may ask, and what it asks: the answer as pg_lsn.
our $options = '-c tcs.asker=test';
our $query = q{SELECT '0/0'::pg_lsn +
	('x' || lpad(split_part(current_setting('tcs.read_index'), ' ', 4), 16, '0'))::bit(64)::bigint::numeric};

# read_index($node): what a standby would be told now.
sub read_index
{
	my ($node) = @_;

	return $node->safe_psql('postgres', $query,
		connstr => $node->connstr('postgres') . " options='$options'");
}

1;
