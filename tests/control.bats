#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The control ioctls: each rule about state and arguments and its errno (kernel-abi.md §1.5, §2), the ways to get a
# device, and what sysfs shows.

load helpers

ADD_DELTA=0x40185000
SYNC=0x500b
GETDEVICE=0x40085016
MAX_DELTA_SIZE=0x4008501c
CTL_GET=0xc0205040

setup_file() { host_up 512m; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# without_admin ARG...: the ioctl program without CAP_SYS_ADMIN.
without_admin() { setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$IOCTL" "$@"; }

refused_without_admin()
{
	local got

	got=$(without_admin "$@") || true
	[[ $got == EPERM ]] || fail "without CAP_SYS_ADMIN: ioctl $*: $got"
}

free_minor()
{
	local minor

	read -r minor </proc/vz/ploop_minor
	printf '%s\n' "$minor"
}

@test "every control ioctl needs CAP_SYS_ADMIN" {
	new_image "$T/a" 16m
	new_device
	for op in start stop clear sync getdevice "maxsize 1" "add $T/a" "raw 0x1234"; do
		# shellcheck disable=SC2086 # an operation and its arguments
		refused_without_admin "$DEV" $op
	done
	refused_without_admin control get any
	refused_without_admin control remove 0
	fails setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin cat /proc/vz/ploop_minor
	expect OK "$DEV" add "$T/a"
	expect OK "$DEV" start
	refused_without_admin "$DEV" stop
	is "$SYS/pstate/running" 1
}

@test "unknown ioctls answer EINVAL: old clients test for it" {
	new_image "$T/a" 16m
	attach "$T/a"
	# Change tracking of other kernels, numbers of commands not there yet, nonsense.
	for nr in $((0x1200 + 200)) $((0x1200 + 201)) $((0x1200 + 202)) $((0x1200 + 203)) $((0x1200 + 204)) \
		0x501d 0x8010500f 0x5fff 0x1234 0; do
		expect EINVAL "$DEV" raw "$nr"
	done
	expect EINVAL control raw 0x1234
	# The block layer's own still work.
	[[ $(blockdev --getsize64 "$DEV") == 16777216 ]]
}

@test "ADD_DELTA: arguments that cannot be read are EFAULT" {
	new_image "$T/a" 16m
	new_device
	expect EFAULT "$DEV" raw $ADD_DELTA 0
	expect EFAULT "$DEV" raw $ADD_DELTA 0xffff800000000000
	expect EFAULT "$DEV" add "$T/a" edge=23
	expect EFAULT "$DEV" add "$T/a" edge=24
	expect EFAULT "$DEV" add "$T/a" edge=55
	expect EFAULT "$DEV" add "$T/a" edge=56 cookie=x
	# Without the flag no cookie is read.
	expect OK "$DEV" add "$T/a" edge=56
}

@test "ADD_DELTA: chunk count, format, flags and cluster size out of range are EINVAL" {
	new_image "$T/a" 16m
	new_device
	for arg in chunks=0 chunks=2 format=0 format=3 format=4294967295 flags=2 flags=0x80000000 \
		cl=5 cl=18 cl=0 cl=32 cl=4294967295 cflags=1 offset=1 start=1 len=1; do
		expect EINVAL "$DEV" add "$T/a" $arg
	done
	# Before the chunk is looked at.
	expect EINVAL "$DEV" add "$T/a" chunks=2 edge=24
	is "$SYS/pstate/top" 4294967295
	fails in_use "$T/a"
	expect OK "$DEV" add "$T/a"
}

@test "ADD_DELTA: bad file descriptors, file modes and engines" {
	new_image "$T/a" 16m
	new_device
	expect EBADF "$DEV" add "$T/a" fd=-1
	expect EBADF "$DEV" add "$T/a" fd=999
	# A writable file for a read-only delta, and the other way round.
	expect EINVAL "$DEV" add "$T/a" flags=1 open=rw
	expect EINVAL "$DEV" add "$T/a" open=ro
	expect EINVAL "$DEV" add "$T/a" open=wo
	expect EINVAL "$DEV" add /dev/null
	expect EINVAL "$DEV" add "$MAIN_DISK"
	expect EINVAL "$DEV" add /dev ro
	for engine in 2 3 4 99; do
		expect EOPNOTSUPP "$DEV" add "$T/a" type=$engine
	done
	# A file system without direct I/O.
	expect EOPNOTSUPP "$DEV" add /proc/version ro
	expect OK "$DEV" add "$T/a" type=1
	is "$SYS/pdelta/0/io" direct
}

@test "ADD_DELTA: EBUSY on a running device; rules between levels" {
	new_image "$T/a" 16m
	new_image "$T/b" 16m
	CL=10 new_image "$T/other-cl" 16m
	truncate -s 16m "$T/base.raw"
	attach "$T/a"
	expect EBUSY "$DEV" add "$T/b"
	expect EBUSY "$DEV" add "$T/b" fd=-1
	fails in_use "$T/b"
	stop
	# The top is writable: nothing may lie on it.
	expect EINVAL "$DEV" add "$T/b"
	fails in_use "$T/b"
	expect OK "$DEV" clear
	expect OK "$DEV" add "$T/a" ro
	expect EINVAL "$DEV" add "$T/other-cl" cl=10
	expect EINVAL "$DEV" add "$T/base.raw" format=1
	expect EINVAL "$DEV" add "$T/base.raw" format=1 ro
	expect OK "$DEV" add "$T/b"
	is "$SYS/pstate/top" 1
}

@test "ADD_DELTA: 128 levels and no more" {
	clusters 6
	new_image "$T/a" 1m
	new_device
	expect OK "$DEV" add "$T/a" ro cl=6 times=128
	expect EINVAL "$DEV" add "$T/a" ro cl=6
	is "$SYS/pstate/top" 127
	is "$SYS/pdelta/127/level" 127
	expect OK "$DEV" start
	data verify "$DEV" 0 1m 0
	detach
}

@test "START: ENOENT without deltas, EBUSY when running" {
	new_image "$T/a" 16m
	new_device
	expect ENOENT "$DEV" start
	expect OK "$DEV" add "$T/a"
	[[ $(blockdev --getsize64 "$DEV") == 0 ]]
	expect OK "$DEV" start
	expect EBUSY "$DEV" start
	[[ $(blockdev --getsize64 "$DEV") == 16777216 ]]
	[[ $(blockdev --getro "$DEV") == 0 ]]
}

@test "START with a read-only top makes the disk read-only" {
	new_image "$T/a" 16m
	attach -r "$T/a"
	[[ $(blockdev --getro "$DEV") == 1 ]]
	fails in_use "$T/a"
	fails data write "$DEV" 0 4k 1
	data verify "$DEV" 0 16m 0
	detach
}

@test "STOP: EINVAL when not running, also without deltas" {
	new_image "$T/a" 16m
	new_device
	expect EINVAL "$DEV" stop
	expect OK "$DEV" add "$T/a"
	expect EINVAL "$DEV" stop
	expect OK "$DEV" start
	stop
	expect EINVAL "$DEV" stop
	[[ $(blockdev --getsize64 "$DEV") == 0 ]]
	# The deltas are still there.
	is "$SYS/pstate/top" 0
	expect OK "$DEV" start
	data verify "$DEV" 0 1m 0
}

@test "STOP: EBUSY while somebody else has the device or a partition open" {
	new_image "$T/a" 32m
	attach "$T/a"
	printf ',,\n' | sfdisk -q "$DEV"
	udevadm settle
	wait_for 10 test -b "${DEV}p1"
	hold "$DEV" hold
	expect EBUSY "$DEV" stop
	let_go
	hold "${DEV}p1" hold
	expect EBUSY "$DEV" stop
	let_go
	hold "$DEV" hold excl
	expect EBUSY "$DEV" stop
	let_go
	is "$SYS/pstate/running" 1
	stop
}

@test "STOP: EBUSY while it is mounted; the file system goes on" {
	new_image "$T/a" 32m
	attach "$T/a"
	mkfs.ext4 -q -F "$DEV"
	mkdir "$T/mnt"
	mount "$DEV" "$T/mnt"
	expect EBUSY "$DEV" stop
	printf 'still here\n' >"$T/mnt/file"
	sync -f "$T/mnt"
	umount "$T/mnt"
	stop
	expect OK "$DEV" start
	mount "$DEV" "$T/mnt"
	is "$T/mnt/file" "still here"
	umount "$T/mnt"
}

@test "STOP through a partition is ENODEV, other commands work there" {
	new_image "$T/a" 32m
	attach "$T/a"
	printf ',,\n' | sfdisk -q "$DEV"
	udevadm settle
	wait_for 10 test -b "${DEV}p1"
	expect ENODEV "${DEV}p1" stop
	expect OK "${DEV}p1" sync
	expect EBUSY "${DEV}p1" start
	expect EBUSY "${DEV}p1" clear
}

@test "CLEAR: EBUSY when running, else it always works and forgets everything" {
	new_image "$T/a" 16m 1
	new_device
	expect OK "$DEV" clear
	expect OK "$DEV" add "$T/a" cookie=biscuit
	expect OK "$DEV" start
	expect EBUSY "$DEV" clear
	in_use "$T/a"
	stop
	expect OK "$DEV" clear
	is "$SYS/pstate/cookie" ""
	is "$SYS/pstate/top" 4294967295
	is "$SYS/pstate/fmt_version" 0
	[[ ! -e $SYS/pdelta/0 ]]
	expect ENOENT "$DEV" start
	expect OK "$DEV" clear
}

@test "SYNC: ENOENT without deltas; else OK, and EIO after ABORT" {
	new_image "$T/a" 16m
	new_device
	expect ENOENT "$DEV" sync
	expect OK "$DEV" add "$T/a" ro
	expect OK "$DEV" sync
	expect OK "$DEV" clear
	expect OK "$DEV" add "$T/a"
	expect OK "$DEV" start
	data write "$DEV" 1m 8k 7
	[[ $(entry "$T/a" 1) == 0 ]]
	expect OK "$DEV" sync
	[[ $(entry "$T/a" 1) == 1 ]]
	in_use "$T/a"
	# No longer empty.
	[[ $(data peek "$T/a" 52 32) == 0 ]]
	expect EINVAL "$DEV" raw $((SYNC + 0x80000000))
	echo 1 >"$SYS/pstate/aborted"
	expect EIO "$DEV" sync
	stop || true
	in_use "$T/a"
}

@test "SYNC of a raw image does nothing" {
	truncate -s 16m "$T/a.raw"
	attach "$T/a.raw"
	expect OK "$DEV" sync
	stop
	expect OK "$DEV" sync
}

@test "MAX_DELTA_SIZE limits what the top may allocate" {
	new_image "$T/a" 64m
	new_device
	expect EINVAL "$DEV" maxsize 4096
	expect EFAULT "$DEV" raw $MAX_DELTA_SIZE 0
	expect OK "$DEV" add "$T/a"
	expect OK "$DEV" start
	# The index and three clusters.
	expect OK "$DEV" maxsize $((4 * 2048))
	data write "$DEV" 0 3m 5
	fails data write "$DEV" 3m 4k 5
	# What is allocated goes on.
	data write "$DEV" 0 3m 6
	data verify "$DEV" 0 3m 6
	data verify "$DEV" 3m 1m 0
	expect OK "$DEV" maxsize $((64 * 2048))
	data write "$DEV" 3m 4k 6
	data verify "$DEV" 3m 4k 6
}

@test "GETDEVICE names the lowest device without deltas" {
	new_image "$T/a" 16m
	new_device
	expect EFAULT "$DEV" raw $GETDEVICE 0
	expect 0 "$DEV" getdevice
	expect OK "$DEV" add "$T/a"
	expect 16 "$DEV" getdevice
	expect OK "$DEV" clear
	expect 0 "$DEV" getdevice
}

@test "ploop_minor reserves a device while it is open" {
	local fd minor

	[[ $(stat -c %a /proc/vz/ploop_minor) == 440 ]]
	exec {fd}</proc/vz/ploop_minor
	read -r minor <&"$fd"
	[[ $minor == 0 ]]
	wait_for 10 test -b /dev/ploop0
	is /sys/block/ploop0/pstate/locked 1
	[[ $(free_minor) == 16 ]]
	expect 16 /dev/ploop0 getdevice
	exec {fd}<&-
	is /sys/block/ploop0/pstate/locked 0
	[[ $(free_minor) == 0 ]]
	expect 0 /dev/ploop0 getdevice
}

@test "the control device finds, makes, reserves and removes devices" {
	expect 0 control get any
	expect 7 control get 7
	wait_for 10 test -b /dev/ploop7
	[[ $(cat /sys/block/ploop7/dev) == 182:112 ]]
	expect 7 control remove 7
	[[ ! -e /sys/block/ploop7 ]]
	expect ENODEV control remove 7
	expect ENODEV control remove 12345
	expect ENODEV control remove -1
	# Not while it is somebody's.
	hold control get 3 hold
	expect EBUSY control get 3
	expect EBUSY control remove 3
	[[ $(ioctl control get any) != 3 ]]
	let_go
	expect 3 control get 3
	# Not while it is open, or has deltas.
	hold /dev/ploop3 hold
	expect EBUSY control remove 3
	let_go
	new_image "$T/a" 16m
	expect OK /dev/ploop3 add "$T/a"
	expect EBUSY control remove 3
	expect EBUSY control get 3
	expect OK /dev/ploop3 clear
	remove 3
}

@test "the control device checks version, flags, reserved fields and the index" {
	expect EINVAL control get any version=0
	expect EINVAL control get any version=2
	expect EINVAL control get any flags=1
	expect EINVAL control get any reserved=1
	expect EINVAL control remove 0 version=2
	expect EFAULT control raw $CTL_GET 0
	expect ERANGE control get 65536
	expect ERANGE control get -2
	expect 65535 control get 65535
	remove 65535
	[[ ! -e /sys/block/ploop0 ]]
}

@test "opening a node of an unknown device makes the device (old clients)" {
	mknod "$T/node" b 182 $((5 * 16))
	[[ ! -e /sys/block/ploop5 ]]
	hold "$T/node" hold
	[[ -d /sys/block/ploop5 ]]
	[[ $(</sys/block/ploop5/dev) == 182:80 ]]
	let_go
	new_image "$T/a" 16m
	expect OK "$T/node" add "$T/a"
	expect OK "$T/node" start
	data write "$T/node" 0 4k 3
	data verify /dev/ploop5 0 4k 3
	detach /dev/ploop5
}

@test "modules do not unload while a device is in use" {
	new_image "$T/a" 16m
	new_device
	expect OK "$DEV" add "$T/a"
	fails rmmod ploop
	fails rmmod pfmt_ploop1
	fails rmmod pio_direct
	expect OK "$DEV" start
	fails modprobe -r pfmt_ploop1 pio_direct ploop
	data verify "$DEV" 0 1m 0
	detach
	hold control get any hold
	fails modprobe -r "${MODULES[@]}"
	let_go
	# finish() takes them away.
}

@test "unloading the modules removes devices without deltas" {
	ioctl control get 1
	ioctl control get 2
	wait_for 10 modprobe -q -r "${MODULES[@]}"
	[[ ! -e /sys/block/ploop1 && ! -e /dev/ploop2 && ! -e /proc/vz ]]
}

@test "formats and engines are loaded when they are needed" {
	rmmod pfmt_ploop1 pfmt_raw pio_direct
	new_image "$T/a" 16m
	truncate -s 16m "$T/b.raw"
	attach "$T/a"
	[[ -d /sys/module/pfmt_ploop1 && -d /sys/module/pio_direct && ! -d /sys/module/pfmt_raw ]]
	detach
	attach "$T/b.raw"
	[[ -d /sys/module/pfmt_raw ]]
}

@test "the cookie is kept from the first delta, cut at 63 bytes, and forgotten by CLEAR" {
	local long

	new_image "$T/a" 16m
	new_image "$T/b" 16m
	new_device
	is "$SYS/pstate/cookie" ""
	# A failed first delta leaves none.
	expect EBADF "$DEV" add "$T/a" fd=-1 cookie=gone
	is "$SYS/pstate/cookie" ""
	expect OK "$DEV" add "$T/a" ro cookie=first
	expect OK "$DEV" add "$T/b" cookie=second
	is "$SYS/pstate/cookie" first
	expect OK "$DEV" clear
	long=$(printf '%064d' 0)
	expect OK "$DEV" add "$T/a" cookie="$long"
	is "$SYS/pstate/cookie" "${long:1}"
}

@test "sysfs: pdelta shows level, image, format, engine and mode" {
	local dev

	truncate -s 16m "$T/base.raw"
	new_image "$T/mid" 16m
	new_image "$T/top" 16m
	attach "$T/base.raw" "$T/mid" "$T/top"
	for level in 0 1 2; do
		is "$SYS/pdelta/$level/level" $level
		is "$SYS/pdelta/$level/io" direct
		is "$SYS/pdelta/$level/transparent" 0
	done
	is "$SYS/pdelta/0/image" "$(realpath "$T/base.raw")"
	is "$SYS/pdelta/2/image" "$(realpath "$T/top")"
	is "$SYS/pdelta/0/format" raw
	is "$SYS/pdelta/1/format" ploop1
	is "$SYS/pdelta/1/ro" 1
	is "$SYS/pdelta/2/ro" 0
	dev=$(mountpoint -d "$HOST")
	is "$SYS/pdelta/2/image_info" "$(printf 'ino:%s\nsdev:%s' "$(stat -c %i "$T/top")" "$dev")"
	mv "$T/top" "$T/renamed"
	is "$SYS/pdelta/2/image" "$(realpath "$T/renamed")"
	rm "$T/renamed"
	[[ $(<"$SYS/pdelta/2/image") == *" (deleted)" ]]
	[[ $(stat -c %a "$SYS/pdelta/0/image") == 444 ]]
}

@test "sysfs: pstate follows the device" {
	new_image "$T/a" 16m
	new_device
	is "$SYS/pstate/running" 0
	is "$SYS/pstate/block_size" 1
	is "$SYS/pstate/top" 4294967295
	is "$SYS/pstate/event" 2
	expect OK "$DEV" add "$T/a" cookie=abc
	is "$SYS/pstate/block_size" 2048
	is "$SYS/pstate/fmt_version" 2
	is "$SYS/pstate/top" 0
	expect OK "$DEV" start
	is "$SYS/pstate/running" 1
	is "$SYS/pstate/aborted" 0
	udevadm settle
	is "$SYS/pstate/open_count" 0
	hold "$DEV" hold
	is "$SYS/pstate/open_count" 1
	let_go
	wait_for 10 is "$SYS/pstate/active_reqs" 0
	is /sys/module/ploop/parameters/large_disk_support 1
	[[ ! -e /sys/module/ploop/parameters/kaio_backed_ext4 ]]
	# Waits for an event, and hears of the stop.
	background cat "$SYS/pstate/event"
	stop
	wait_for 10 grep -qx 2 "$T/background"
}

@test "sysfs: pstat counts, ptune changes" {
	local before

	new_image "$T/a" 16m
	attach "$T/a"
	udevadm settle
	is "$SYS/ptune/check_zeros" 1
	is "$SYS/ptune/dense" 0
	is "$SYS/ptune/fast" 1
	is "$SYS/ptune/fsync_max" 32
	before=$(cat "$SYS/pstate/total_bios")
	data verify "$DEV" 0 4k 0
	(($(cat "$SYS/pstate/total_bios") > before))
	# A counter goes on from what is written to it.
	echo 1000000 >"$SYS/pstat/bio_rzero"
	data verify "$DEV" 0 4k 0
	(($(stat_of bio_rzero) > 1000000 && $(stat_of bio_rzero) < 1000100))
	fails bash -c "echo rubbish >'$SYS/pstat/bio_rzero'"
	before=$(stat_of bio_alloc)
	data write "$DEV" 1m 4k 1
	(($(stat_of bio_alloc) == before + 1))
	before=$(stat_of bio_wzero)
	data write "$DEV" 5m 4k 0
	(($(stat_of bio_wzero) == before + 1))
	before=$(stat_of bio_rzero)
	data verify "$DEV" 5m 4k 0
	(($(stat_of bio_rzero) > before))
	echo 0 >"$SYS/ptune/check_zeros"
	is "$SYS/ptune/check_zeros" 0
	data write "$DEV" 5m 4k 0
	expect OK "$DEV" sync
	[[ $(entry "$T/a" 5) != 0 ]]
	fails bash -c "echo rubbish >'$SYS/ptune/check_zeros'"
	# Only while stopped.
	fails bash -c "echo 1 >'$SYS/ptune/dense'"
	stop
	echo 1 >"$SYS/ptune/dense"
	is "$SYS/ptune/dense" 1
}

@test "sysfs: writing 1 to aborted refuses writes with EIO and leaves reads alone" {
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 64k 9
	echo 1 >"$SYS/pstate/aborted"
	is "$SYS/pstate/aborted" 1
	is "$SYS/pstate/event" 1
	fails data write "$DEV" 0 64k 10
	data verify "$DEV" 0 64k 9
	fails blkdiscard "$DEV"
	stop || true
	# Not closed: a check must look at it.
	in_use "$T/a"
	expect OK "$DEV" clear
	in_use "$T/a"
	is "$SYS/pstate/aborted" 0
	expect EBUSY "$DEV" add "$T/a"
}

@test "images are attached by inode: a hard link or another path is the same file" {
	new_image "$T/a" 16m
	ln "$T/a" "$T/link"
	attach "$T/a"
	new_device
	expect EBUSY "$DEV" add "$T/link"
	expect ETXTBSY "$DEV" add "$T/link" ro
}
