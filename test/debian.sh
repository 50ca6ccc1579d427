# test/debian.sh
#
# Debian folders made by debootstrap, and runs in them by chroot.  Sourced, after
# common.sh, by test/folder and test/machines, which define
#
#   cannot WHY...    says that and ends the script with status 77
#   furnish ROOT     does what is peculiar to a new folder
#
# /proc and the shared memory of the folder are mounted in a mount namespace, and
# processes run in a process namespace, so that both are gone when the script
# is, however it ends.  All this needs root.

roots=${TCS_ROOTS:-/var/tmp/tcs-roots}
mirror=${TCS_MIRROR:-http://deb.debian.org/debian}

need_namespaces()
{
	unshare --mount --pid --fork --kill-child true 2>/dev/null ||
		cannot "this machine does not let root make a mount namespace (a container?)"
}

# make_debian ROOT SUITE WHAT-FOR: unless it is there.
make_debian()
{
	mkdir -p "$roots" 2>/dev/null || cannot "$roots cannot be made"

	# Two runs must not make it at the same time.
	exec 9>"$1.lock"
	flock -n 9 || { say "waiting for another run that makes $1"; flock 9; }
	[ -x "$1/usr/bin/apt-get" ] || bootstrap "$@"
	exec 9>&-

	cp -L /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null || :
}

# Made under another name and renamed when it is complete, so that a folder
# that is there is a whole one.
bootstrap()
{
	partial=$1.partial
	log=$1.log
	rm -rf "$partial"

	if ! command -v debootstrap >/dev/null; then
		command -v apt-get >/dev/null || cannot "debootstrap is missing and this system has no apt-get"
		major=none
		(install_packages debootstrap debian-archive-keyring) || cannot "debootstrap cannot be installed"
	fi

	say "making $1 $3 (Debian $2; a few minutes, once)"
	if ! debootstrap --variant=minbase "$2" "$partial" "$mirror" >"$log" 2>&1; then
		warn "$(grep -E '^[EW]:' "$log" | tail -3)"
		rm -rf "$partial"
		cannot "debootstrap of Debian $2 from $mirror failed (see $log)"
	fi

	# A mirror that is a snapshot has Release files past their date.  Their
	# signatures are checked all the same.
	echo 'Acquire::Check-Valid-Until "false";' >"$partial/etc/apt/apt.conf.d/90tcs"
	echo "deb $mirror $2 main" >"$partial/etc/apt/sources.list"
	cp -L /etc/resolv.conf "$partial/etc/resolv.conf" 2>/dev/null || :

	# No package may start a service in the folder.
	printf '#!/bin/sh\nexit 101\n' >"$partial/usr/sbin/policy-rc.d"
	chmod 755 "$partial/usr/sbin/policy-rc.d"
	furnish "$partial"

	rm -f "$log"
	mv "$partial" "$1"
}

# enter_debian ROOT [NAME=VALUE...] COMMAND...: as root in it; status 78 when that
# is not possible here.
enter_debian()
{
	mkdir -p "$1/dev/shm"
	unshare --mount --pid --fork --kill-child sh -c '
		root=$1
		shift
		mount -t proc proc "$root/proc" && mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" || exit 78
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "$@"
	' sh "$@" </dev/null
}
