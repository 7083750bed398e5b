#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Control needs CAP_SYS_ADMIN in the initial namespace: every ioctl of the header is EPERM for others, and not because
# of the modes of the nodes, which are open to all here.

load helpers

setup_file() { host_up 512m; }
teardown_file() { host_down; }

setup()
{
	begin
	# Where an ordinary user finds it.
	PROGRAM=/tmp/ioctl.$$
	install -m 755 "$IOCTL" "$PROGRAM"
	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 1m 1
	chmod 666 "$DEV" /dev/ploop-control
	chmod 444 /proc/vz/ploop_minor
}

teardown()
{
	rm -f "$PROGRAM"
	finish
}

# commands PREFIX: name and number of each command that the header has with it.
commands()
{
	local header=$TOP/include/uapi/linux/ploop.h name kind nr type size
	local -A sizes=([ploop_ctl]=24 [ploop_truncate_ctl]=16 [ploop_index_update_ctl]=8 [ploop_balloon_ctl]=16
		[ploop_freeblks_ctl]=16 [ploop_relocblks_ctl]=16 [ploop_track_extent]=16 [ploop_getdevice_ctl]=8
		[ploop_control_device]=32 [__u32]=4 [__u64]=8 [long]=8)
	local -A directions=([_IO]=0 [_IOW]=1 [_IOR]=2 [_IOWR]=3)

	while read -r name kind nr type; do
		size=0
		[[ ! $type ]] || size=${sizes[${type##* }]}
		printf '%s %d\n' "$name" $((directions[$kind] << 30 | size << 16 | 0x50 << 8 | nr))
	done < <(sed -nE "s/^#define ($1[A-Z_]+)[[:space:]]+(_IO[WR]*)\('P', ([0-9a-fx]+)(, ([a-z_0-9 ]+))?\).*/\1 \2 \3 \5/p" \
		"$header")
}

# refused COMMAND...: what runs the ioctl program for somebody; all commands are EPERM.
refused()
{
	local name nr n=0 answer

	while read -r name nr; do
		answer=$("$@" "$PROGRAM" "$DEV" raw "$nr" 2>&1) || true
		[[ $answer == EPERM ]] || fail "$name: $answer" || return 1
		n=$((n + 1))
	done < <(commands PLOOP_IOC_)
	while read -r name nr; do
		answer=$("$@" "$PROGRAM" control raw "$nr" 2>&1) || true
		[[ $answer == EPERM ]] || fail "$name: $answer" || return 1
		n=$((n + 1))
	done < <(commands PLOOP_CTL_)
	((n == $(grep -cE '^#define PLOOP_(IOC|CTL)_' "$TOP/include/uapi/linux/ploop.h"))) || fail "only $n commands were tried"
	# Nor with a number that is none: nothing is to be learned.
	[[ $("$@" "$PROGRAM" "$DEV" raw 0x50ff 2>&1) == EPERM ]]
	[[ $("$@" "$PROGRAM" control raw 0x50ff 2>&1) == EPERM ]]
	fails "$@" cat /proc/vz/ploop_minor
	# The device runs as before.
	is "$SYS/pstate/running" 1
	data verify "$DEV" 0 1m 1
}

@test "root is not refused" {
	local name nr

	while read -r name nr; do
		fails says EPERM "$DEV" raw "$nr" </dev/null
	done < <(commands PLOOP_IOC_ | grep -vE '_(DISCARD_WAIT|FREEZE) ')
	while read -r name nr; do
		fails says EPERM control raw "$nr"
	done < <(commands PLOOP_CTL_)
}

@test "an ordinary user" { refused setpriv --reuid 65534 --regid 65534 --clear-groups; }

@test "root without CAP_SYS_ADMIN" { refused setpriv --bounding-set -sys_admin --inh-caps -sys_admin; }

@test "root of a new user namespace" {
	refused unshare --user --map-root-user
	# That of an ordinary user has as little to say.
	if setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user true; then
		refused setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user
	fi
}

@test "what sysfs takes is for root" {
	local file

	for file in pstate/aborted ptune/fsync_max ptune/dense pstat/bio_in; do
		[[ $(stat -c '%a %U' "$SYS/$file") == '644 root' ]] || fail "$file"
	done
	fails setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "echo 1 >$SYS/pstate/aborted"
	is "$SYS/pstate/aborted" 0
}
