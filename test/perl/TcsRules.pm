# test/perl/TcsRules.pm
#
# Rules by data: statements that all nodes have, and which level a statement gets
# from whom.

package TcsRules;

use strict;
use warnings;

use Exporter 'import';

use TcsTest;

our @EXPORT = qw(everywhere explain explain_column served);

# Runs statements on the first of the nodes, the primary, with options of read_at.
# Returns when the other nodes have replayed them.
sub everywhere
{
	my ($nodes, $sql, %opt) = @_;
	my ($primary, @standbys) = @$nodes;

	read_at($primary, $sql, %opt);
	wait_for_replay($primary, $_) foreach (@standbys);
	return;
}

# The level that a statement gets on a node, and from whom, without running it:
# "strong by rule 1".
sub explain
{
	my ($node, $sql, %opt) = @_;

	return explain_column($node, "level || ' by ' || source", $sql, %opt);
}

# A column of tcs.explain_level() for the statement.
sub explain_column
{
	my ($node, $column, $sql, %opt) = @_;

	return read_at($node, "SELECT $column FROM tcs.explain_level(\$q\$$sql\$q\$)", %opt);
}

# The same as explain() of a statement that is run.
sub served
{
	my ($node, $sql, %opt) = @_;

	return (split /\n/,
		read_at($node, "$sql; SELECT level || ' by ' || level_source FROM tcs.last_read()", %opt))[-1];
}

1;
