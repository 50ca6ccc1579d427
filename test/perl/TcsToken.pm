# test/perl/TcsToken.pm
#
# Tokens with other positions than those the server gave them.  All that has to
# be known of their form outside of the library is here.  TcsTest.pm has these
# functions too; the benchmark, which has no PostgreSQL::Test, uses this module.

package TcsToken;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(with_check_digits token_with);

# A token from the text before its last dot: the check digits are the CRC-32C of
# that, in every version.
sub with_check_digits
{
	my ($body) = @_;
	my $crc = 0xffffffff;

	foreach my $byte (unpack 'C*', lc $body)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 foreach 1 .. 8;
	}
	return sprintf('%s.%08x', $body, $crc ^ 0xffffffff);
}

# The token with other positions: token_with($token, written => 1).
sub token_with
{
	my ($token, %positions) = @_;
	my %place = (written => 4, seen_primary => 5, seen_standby => 6);
	my @fields = (split /\./, $token)[ 0 .. 7 ];

	$fields[ $place{$_} ] = sprintf('%x', $positions{$_}) foreach keys %positions;
	return with_check_digits(join('.', @fields));
}

1;
