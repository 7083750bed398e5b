#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The host's disk fails, the host's file system is full, over quota or read-only: after every failure the device works,
# or it is in ABORT and what was durable can be read; all can be torn down, and the image used again.

load helpers

PLOOP=$TOP/userspace/ploop

setup_file() { host_up 1g; }
teardown_file() { host_down; }

setup()
{
	begin
	mkdir "$T/host"
}

teardown()
{
	end_helpers
	# Or all that follows takes as long as the disk.
	! has_faulty || mend_disk
	drop_devices
	! mountpoint -q "$T/host" || umount "$T/host"
	! has_faulty || dmsetup remove --retry faulty
	[[ ! ${DISK:-} ]] || losetup -d "$DISK"
	! grep -q '^scsi_debug' /proc/modules || wait_for 10 modprobe -r scsi_debug
	finish
}

has_faulty() { dmsetup info faulty >/dev/null 2>&1; }

ended() { ! kill -0 "$1" 2>/dev/null; }

# --- a disk that fails on demand

# table FAILING-START FAILING-LENGTH: of these sectors writes fail, reads do not.
table()
{
	local size start=$1 length=$2

	size=$(blockdev --getsz "$DISK")
	((start == 0)) || echo "0 $start linear $DISK 0"
	((length == 0)) || echo "$start $length flakey $DISK $start 0 1 1 error_writes"
	((start + length >= size)) || echo "$((start + length)) $((size - start - length)) linear $DISK $((start + length))"
}

# faulty_host [MKFS-OPTION...]: ext4 on it, in $T/host.
faulty_host()
{
	modprobe -q dm-flakey || skip "this kernel has no dm-flakey"
	DISK=$(scratch_disk "faulty$BATS_TEST_NUMBER" 256m)
	table 0 0 | dmsetup create faulty
	udevadm settle
	mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard "$@" /dev/mapper/faulty
	mount /dev/mapper/faulty "$T/host"
}

# break_disk START LENGTH; 0 0: it is whole again.
break_disk()
{
	dmsetup suspend --nolockfs faulty
	table "$1" "$2" | dmsetup load faulty
	dmsetup resume faulty
}

mend_disk() { break_disk 0 0; }

# The first sector on the disk of the image's index.
index_sector()
{
	filefrag -b512 -v "$1" | awk '$1 == "0:" { sub(/\.\..*/, "", $4); print $4 }'
}

# The file system again, after what happened to it; $1: its device.
host_again()
{
	local rc=0

	umount "$T/host"
	e2fsck -fy "$1" >"$BATS_TEST_TMPDIR/fsck" 2>&1 || rc=$?
	((rc < 4)) || fail "$(<"$BATS_TEST_TMPDIR/fsck")"
	mount "$1" "$T/host"
}

# --- what must be right

# prepare_image FILE: 4 MiB of it are durable.
prepare_image()
{
	new_image "$1" 64m
	attach "$1"
	data write "$DEV" 0 4m 1
	expect OK "$DEV" sync
}

# still_shows OFFSET LENGTH SEED: reads go on, unless the host does not read its own files any more. That is so on ext4
# of 6.12: ext4_handle_error() sets EXT4_FLAGS_SHUTDOWN, with which ext4_file_read_iter() is EIO for everybody; 6.1 only
# becomes read-only. Without noatime this read would itself be what makes ext4 notice that its journal is gone.
still_shows()
{
	data verify "$DEV" "$@" && return
	kernel_log | grep -q 'EXT4-fs.*Remounting filesystem read-only' || fail "no reads, but the host is well" || return 1
	fails dd if="$T/host/a" of=/dev/null bs=4k count=1 iflag=direct,noatime status=none || return 1
	echo "# the host does not read any more either" >&3
}

# In ABORT: no writes, but reads.
aborted()
{
	is "$SYS/pstate/aborted" 1
	fails data write "$DEV" 0 4k 9
	fails data write "$DEV" 40m 4k 9
	expect EIO "$DEV" sync
	still_shows 0 4m 1
}

# Recovered from ABORT: by the command, and used again.
recovered()
{
	local file=$1

	in_use "$file"
	fails "$PLOOP" check "$file"
	"$PLOOP" check --repair "$file"
	"$PLOOP" check "$file"
	attach "$file"
	data verify "$DEV" 0 4m 1
	data write "$DEV" 30m 2m 5
	data verify "$DEV" 30m 2m 5
	expect OK "$DEV" sync
	detach
	fails in_use "$file"
}

@test "an index write that fails is ABORT; reads go on; check mends the image" {
	faulty_host -O ^has_journal
	prepare_image "$T/host/a"
	# Acknowledged, not flushed.
	data write "$DEV" 10m 1m 2
	break_disk "$(index_sector "$T/host/a")" 8
	expect EIO "$DEV" sync
	aborted
	is "$SYS/pstate/event" 1
	# Also what no flush made durable is there as long as the device is.
	data verify "$DEV" 10m 1m 2
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	mend_disk
	recovered "$T/host/a"
}

@test "a data write that fails is EIO of this bio, not ABORT" {
	local sector

	faulty_host -O ^has_journal
	prepare_image "$T/host/a"
	# The second cluster of the file: the device's first one.
	sector=$(filefrag -b512 -v "$T/host/a" | awk -v at=2048 '
		/^ *[0-9]+:/ { gsub(/[.:]/, " "); if ($2 <= at && at <= $3) print $4 + at - $2 }')
	break_disk "$sector" 64
	fails data write "$DEV" 0 16k 3
	data verify "$DEV" 1m 3m 1
	data write "$DEV" 2m 1m 4
	is "$SYS/pstate/aborted" 0
	mend_disk
	data write "$DEV" 0 16k 3
	expect OK "$DEV" sync
	data verify "$DEV" 0 16k 3
	data verify "$DEV" 2m 1m 4
	detach
	"$PLOOP" check "$T/host/a"
}

@test "the whole disk refuses writes: ABORT or EIO, reads, teardown, recovery" {
	faulty_host
	prepare_image "$T/host/a"
	break_disk 0 "$(blockdev --getsz "$DISK")"
	fails data write "$DEV" 20m 4m 2
	fails says OK "$DEV" sync
	still_shows 0 4m 1
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	mend_disk
	host_again /dev/mapper/faulty
	if in_use "$T/host/a"; then
		"$PLOOP" check --repair "$T/host/a"
	fi
	attach "$T/host/a"
	data verify "$DEV" 0 4m 1
	detach
}

@test "SNAPSHOT, MERGE and GROW on a disk that refuses writes" {
	faulty_host
	prepare_image "$T/host/a"
	new_image "$T/host/b" 64m
	expect OK "$DEV" snapshot "$T/host/b"
	data write "$DEV" 4m 4m 2
	expect OK "$DEV" sync
	new_image "$T/host/c" 64m
	sync "$T/host/c"
	break_disk 0 "$(blockdev --getsz "$DISK")"
	fails says OK "$DEV" snapshot "$T/host/c"
	fails says OK "$DEV" grow 262144
	fails says OK "$DEV" merge
	still_shows 0 4m 1
	still_shows 4m 4m 2
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	mend_disk
	host_again /dev/mapper/faulty
	for image in a b; do
		! in_use "$T/host/$image" || "$PLOOP" check --repair "$T/host/$image"
	done
	attach "$T/host/a" "$T/host/b"
	data verify "$DEV" 0 4m 1
	data verify "$DEV" 4m 4m 2
	detach
}

# --- scsi_debug

# The disk that it makes, in DISK_NODE, and where errors are put in.
scsi_disk()
{
	modprobe -q sd_mod || true
	modprobe scsi_debug dev_size_mb=200 delay=0 2>/dev/null || skip "this kernel has no scsi_debug"
	wait_for 10 compgen -G '/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*' >/dev/null
	DISK_NODE=$(compgen -G '/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*')
	SCSI_ADDRESS=$(basename "$(dirname "$(dirname "$DISK_NODE")")")
	DISK_NODE=/dev/${DISK_NODE##*/}
	wait_for 10 test -b "$DISK_NODE"
}

@test "scsi_debug: medium errors of all writes, then none" {
	local errors

	scsi_disk
	errors=/sys/kernel/debug/scsi_debug/$SCSI_ADDRESS/error
	[[ -e $errors ]] || skip "scsi_debug of $(uname -r) cannot fail writes only"
	mkfs.ext4 -q -F -O ^has_journal "$DISK_NODE"
	mount "$DISK_NODE" "$T/host"
	prepare_image "$T/host/a"
	data write "$DEV" 10m 1m 2
	# WRITE(10): CHECK CONDITION, MEDIUM ERROR, WRITE ERROR. Positive: always.
	echo '2 1 0x2a 0 0 0x2 0x3 0xc 0x0' >"$errors"
	expect EIO "$DEV" sync
	aborted
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	echo '- 2 0x2a' >"$errors"
	host_again "$DISK_NODE"
	recovered "$T/host/a"
	umount "$T/host"
}

@test "scsi_debug: a disk that answers late" {
	scsi_disk
	mkfs.ext4 -q -F "$DISK_NODE"
	mount "$DISK_NODE" "$T/host"
	prepare_image "$T/host/a"
	echo 20 >/sys/bus/pseudo/drivers/scsi_debug/delay
	data write "$DEV" 10m 4m 2
	expect OK "$DEV" sync
	new_image "$T/host/b" 64m
	expect OK "$DEV" snapshot "$T/host/b"
	data write "$DEV" 11m 1m 3
	expect OK "$DEV" merge
	echo 0 >/sys/bus/pseudo/drivers/scsi_debug/delay
	data verify "$DEV" 10m 1m 2
	data verify "$DEV" 11m 1m 3
	data verify "$DEV" 12m 2m 2
	detach
	umount "$T/host"
}

# --- no space, again and again

# storm FILL-COMMAND FREE-COMMAND: writers of more than the driver has allocated ahead wait and go on, some rounds of
# it, while readers look on.
storm()
{
	local round writer

	for round in 1 2 3 4; do
		# Gives back what the last round has allocated ahead.
		stop
		expect OK "$DEV" start
		"$1"
		data write "$DEV" $((round * 36))m 32m $((round + 10)) 3>&- &
		writer=$!
		wait_for 60 is_event 3
		data verify "$DEV" 0 4m 1
		is "$SYS/pstate/aborted" 0
		"$2"
		wait_for 90 ended $writer
		wait $writer
		expect OK "$DEV" sync
		data verify "$DEV" $((round * 36))m 32m $((round + 10))
	done
	detach
	fails in_use "$T/host/a"
	"$PLOOP" check "$T/host/a"
	attach "$T/host/a"
	for round in 1 2 3 4; do
		data verify "$DEV" $((round * 36))m 32m $((round + 10))
	done
	data verify "$DEV" 0 4m 1
	detach
}

# Old clients see it in the file, which does not wait when opened so.
is_event() { [[ $(timeout 2 cat "$SYS/pstate/event") == "$1" ]]; }

fill_up() { fallocate -l $(($(stat -f -c '%a * %S' "$T/host") - 4 * 1048576)) "$T/host/ballast"; }
free_up() { rm "$T/host/ballast"; }

@test "ENOSPC storm" {
	DISK=$(scratch_disk storm 256m)
	make_fs ext4 "$DISK" "$T/host"
	new_image "$T/host/a" 256m
	attach "$T/host/a"
	data write "$DEV" 0 4m 1
	storm fill_up free_up
	umount "$T/host"
}

project_quota() { xfs_quota -x -c "limit -p bhard=$1 77" "$T/host" >/dev/null; }
tighten() { project_quota $(($(stat -c '%b * 512' "$T/host/p/a") + 3 * 1048576)); }
widen() { project_quota 0; }

@test "EDQUOT storm: project quota of xfs" {
	command -v xfs_quota >/dev/null || skip "no xfs_quota"
	has_fs xfs || skip "this kernel has no xfs"
	DISK=$(scratch_disk storm 400m)
	mkfs.xfs -q -f "$DISK"
	mount -o prjquota "$DISK" "$T/host" || skip "this xfs has no quota"
	mkdir "$T/host/p"
	xfs_quota -x -c "project -s -p $T/host/p 77" "$T/host" >/dev/null
	new_image "$T/host/p/a" 256m
	ln -s p/a "$T/host/a"
	attach "$T/host/p/a"
	data write "$DEV" 0 4m 1
	expect OK "$DEV" sync
	storm tighten widen
	umount "$T/host"
}

# --- the host goes away

# 6.12 does not show it in /proc/mounts any more.
host_gave_up() { kernel_log | grep -q 'Remounting filesystem read-only'; }

@test "the host becomes read-only by an error: ABORT, reads, teardown, recovery" {
	local sysfs

	DISK=$(scratch_disk readonly 256m)
	mkfs.ext4 -q -F -e remount-ro "$DISK"
	mount "$DISK" "$T/host"
	prepare_image "$T/host/a"
	data write "$DEV" 10m 1m 2
	sysfs=/sys/fs/ext4/${DISK#/dev/}/trigger_fs_error
	echo "ploop test" >"$sysfs"
	wait_for 10 host_gave_up
	fails says OK "$DEV" sync
	aborted
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	host_again "$DISK"
	recovered "$T/host/a"
	umount "$T/host"
}

# What shuts a file system down at once; 6.1's xfs has it too.
shut_down()
{
	python3 - "$1" <<-'END'
	import fcntl, os, struct, sys
	fd = os.open(sys.argv[1], os.O_RDONLY)
	fcntl.ioctl(fd, 0x8004587d, struct.pack("I", 2))
	END
}

host_shut_down()
{
	local type=$1

	has_fs "$type" || skip "this kernel has no $type"
	DISK=$(scratch_disk shutdown 400m)
	make_fs "$type" "$DISK" "$T/host"
	prepare_image "$T/host/a"
	data write "$DEV" 10m 1m 2
	shut_down "$T/host"
	fails says OK "$DEV" sync
	fails data write "$DEV" 20m 1m 2
	# It may not be readable any more, but answers, and lets go.
	dd if="$DEV" of=/dev/null bs=1M count=4 iflag=direct status=none || true
	stop
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	umount "$T/host"
	mount "$DISK" "$T/host"
	! in_use "$T/host/a" || "$PLOOP" check --repair "$T/host/a"
	attach "$T/host/a"
	data verify "$DEV" 0 4m 1
	detach
	umount "$T/host"
}

@test "ext4 is shut down" { host_shut_down ext4; }

@test "xfs is shut down" { host_shut_down xfs; }

# --- a disk that is slow on demand

# slow_disk READ WRITE [FLUSH [SECTOR]]: so many milliseconds; what is under way comes to its end first. Writes to the page
# at SECTOR fail.
slow_disk()
{
	local size at=${4:-} read=$1 write=$2 flush=${3:-$2}

	modprobe -q dm-delay || skip "this kernel has no dm-delay"
	size=$(blockdev --getsz "$DISK")
	dmsetup suspend --nolockfs faulty
	slow() { echo "$1 $2 delay $DISK $1 $read $DISK $1 $write $DISK $1 $flush"; }
	{
		slow 0 "${at:-$size}"
		if [[ $at ]]; then
			echo "$at 8 flakey $DISK $at 0 1 1 error_writes"
			slow $((at + 8)) $((size - at - 8))
		fi
	} | dmsetup load faulty
	# udev would read it.
	dmsetup resume --noudevsync --noudevrules faulty
}

# stands_in PID FUNCTION: in the kernel.
stands_in() { grep -q " $2+" "/proc/$1/stack"; }

@test "who makes a snapshot is killed while it waits for a read: writes that came meanwhile go on" {
	local reader snapshot writer

	faulty_host
	prepare_image "$T/host/a"
	new_image "$T/top" 64m
	slow_disk 8000 0
	dd if="$DEV" of=/dev/null bs=4k count=1 iflag=direct status=none 3>&- &
	reader=$!
	wait_for 10 is "$SYS/pstate/active_reqs" 1
	"$IOCTL" "$DEV" snapshot "$T/top" cl="$CL" 3>&- &
	snapshot=$!
	wait_for 10 stands_in "$snapshot" ploop_epoch_quiesce
	data write "$DEV" 8m 4k 2 3>&- &
	writer=$!
	wait_for 10 is "$SYS/pstate/active_reqs" 2
	kill -KILL "$snapshot"
	wait "$snapshot" || true
	wait "$reader"
	wait_for 20 ended "$writer"
	wait "$writer"
	is "$SYS/pstate/top" 0
	slow_disk 0 0
	data verify "$DEV" 8m 4k 2
	data verify "$DEV" 0 4m 1
}

@test "GROW while writes are under way to a cluster that has to move: none of them is lost" {
	local first earlier later grow

	faulty_host
	clusters 6
	prepare_image "$T/host/a"
	slow_disk 0 3000
	# GROW waits for this one before it marks what has to move,
	data write "$DEV" 2m 4k 2 3>&- &
	first=$!
	wait_for 10 is "$SYS/pstate/active_reqs" 1
	"$IOCTL" "$DEV" grow $((512 << 11)) cl="$CL" >"$T/grow" 3>&- &
	grow=$!
	wait_for 10 stands_in "$grow" ploop_epoch_flip
	# and this one did not see the mark. It is to be at the disk when the next one comes.
	sleep 1
	data write "$DEV" 0 4k 3 3>&- &
	earlier=$!
	wait_for 10 is "$SYS/pstate/active_reqs" 2
	wait "$first"
	data write "$DEV" 4k 4k 4 3>&- &
	later=$!
	wait "$earlier" "$later"
	slow_disk 0 0
	wait "$grow"
	is "$T/grow" OK
	data verify "$DEV" 0 4k 3
	data verify "$DEV" 4k 4k 4
	data verify "$DEV" 2m 4k 2
}

@test "MERGE: what was copied up just before it begins hides what is below, also when the index then fails" {
	local merge

	faulty_host
	clusters 6
	new_image "$T/low" 64m
	attach "$T/low"
	data write "$DEV" 0 8m 1
	detach
	new_image "$T/host/up" 64m
	attach "$T/low" "$T/host/up"
	data write "$DEV" 0 4m 2
	expect OK "$DEV" sync
	# One after the other: what is copied up now is the last to move.
	echo 1 >"$SYS/ptune/fsync_max"
	slow_disk 300 0 4000
	data write "$DEV" 0 4k 3
	"$IOCTL" "$DEV" merge >"$T/merge" 3>&- &
	merge=$!
	wait_for 10 stands_in "$merge" ploop_flush
	data write "$DEV" 7m 4k 4
	stands_in "$merge" ploop_flush
	# The first has moved, so that the index of the new top has to be written.
	wait_for 30 grep -q '^[1-9]' "$SYS/pstate/progress"
	slow_disk 300 0 0 "$(index_sector "$T/host/up")"
	fails dd if=/dev/zero of="$DEV" bs=4k count=0 conv=fsync,notrunc status=none
	is "$SYS/pstate/aborted" 1
	wait "$merge" || true
	detach
	mend_disk
	"$PLOOP" check --repair "$T/low" "$T/host/up"
	attach "$T/low" "$T/host/up"
	data verify "$DEV" 4m 3m 1
	data verify "$DEV" $((7168 + 4))k $((1024 - 4))k 1
	data verify "$DEV" 4k $((4096 - 4))k 2
	detach
}
