#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The write tracker and FREEZE, by their ioctls.

load helpers
load stack

TRACK=$TOP/build/tests/track

setup_file() { host_up 4g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	mkdir mnt
}

teardown()
{
	cd /
	thaw
	finish
}

# DEV runs: a disk of 64 MiB with clusters of 1 MiB, of which the first four have data.
running()
{
	new_image image 64m
	expect OK "$DEV" add image rw
	expect OK "$DEV" start
	data write "$DEV" 0 4m 1
	expect OK "$DEV" sync
}

# answers ANSWER OP
answers() { IOCTL=$TRACK expect "$1" "$DEV" "${@:2}"; }

@test "the rules of the tracker" {
	local cluster=$((1 << 20))

	new_device
	answers ENOENT init
	answers OK stop
	answers OK abort
	answers EINVAL read
	answers EINVAL setpos=1
	answers EINVAL freeze
	answers EINVAL thaw
	running
	# The index and four clusters; then what was written, once; going backwards is for 0 only.
	track init read "setpos=$cluster" read "setpos=1" "setpos=$((5 * cluster))" read
	tracked "0 $((5 * cluster))" "0 $((5 * cluster))" OK "$cluster $((5 * cluster))" EINVAL OK EAGAIN
	# Its owner has ended; a worker sees to the rest.
	wait_for 10 is "$SYS/pstate/maintenance" 0
	answers EFAULT null
	wait_for 10 is "$SYS/pstate/maintenance" 0
}

# track OP...: prints go to $tracked.
track() { "$TRACK" "$DEV" "$@" >tracked 2>&1 || true; }
tracked() { is tracked "$(printf '%s\n' "$@")"; }

@test "a write is noted once, behind the position only; STOP with notes; a new session is not aborted" {
	local cluster=$((1 << 20))

	new_device
	running
	IOCTL=$TRACK hold "$DEV" init "setpos=$((20 * cluster))" hold
	is "$SYS/pstate/maintenance" 4
	answers EBUSY init
	data write "$DEV" 1m 4k 5
	data write "$DEV" 40m 4k 5
	# Others may look, it is theirs to end.
	answers EBUSY stop
	is "$SYS/pstate/maintenance" 4
	[[ $("$TRACK" "$DEV" read) == *" "* ]]
	answers OK abort
	is "$SYS/pstate/maintenance" 0
	let_go
	# Notes that were lost are of the session in which they were.
	track init "setpos=$((20 * cluster))" abort init read stop
	is "$SYS/pstate/maintenance" 0
	[[ $(tail -n 1 tracked) == OK && $(tail -n 2 tracked) != *ECONNABORTED* ]]
	# The owner is gone: so is the tracker, and what was frozen is thawed.
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	IOCTL=$TRACK hold "$DEV" init freeze freeze hold
	expect EBUSY "$DEV" merge
	let_go
	wait_for 10 is "$SYS/pstate/maintenance" 0
	timeout 20 sh -c 'echo x >mnt/x; sync -f mnt/x'
	"$TRACK" "$DEV" freeze thaw thaw
	timeout 20 sh -c 'echo y >mnt/x; sync -f mnt/x'
	umount mnt
}

@test "who tracks dies while another one freezes: the tracker ends with the freeze" {
	new_device
	running
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	IOCTL=$TRACK hold "$DEV" init hold
	is "$SYS/pstate/maintenance" 4
	freeze
	freezing mnt/x
	kill "${HELPERS[-1]}"
	wait "${HELPERS[-1]}" || true
	unset 'HELPERS[-1]'
	# While filesystems freeze nothing else may happen.
	sleep 1
	expect EBUSY "$DEV" balloon 0 2
	thaw
	frozen_and_thawed
	wait_for 10 is "$SYS/pstate/maintenance" 0
	answers EINVAL read
	track init abort
	tracked "$(head -n 1 tracked)" OK
	timeout 20 sh -c 'echo y >mnt/x; sync -f mnt/x'
	umount mnt
}

@test "who froze a filesystem closes the device and dies: whoever looks next lets it go" {
	new_device
	running
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	track freeze close
	blockdev --getsize64 "$DEV"
	timeout 20 sh -c 'echo x >mnt/x; sync -f mnt/x'
	umount mnt
}
