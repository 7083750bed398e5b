#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The fast path: what lies at a known place of the host's disk is read and overwritten there. It is used where it can be;
# whatever moves blocks of an image is refused, or waits until nobody uses their places; data stay right all the same.

load helpers
load stack

setup_file() { host_up 1g; }
teardown_file() { host_down; }
setup() { begin; }

teardown()
{
	end_helpers
	[[ ! ${FROZEN:-} ]] || fsfreeze -u "$FROZEN"
	drop_devices
	[[ ! -b /dev/mapper/fastmeta ]] || thin_down
	[[ ! ${SMALL:-} ]] || small_host_down
	finish
}

# host FS: another host, in $T/small, and IMG there.
host()
{
	has_fs "$1" || skip "this kernel has no $1"
	small_host "$1" 500m "${@:2}"
	IMG=$T/small/image
}

mapping() { is "$SYS/pdelta/${2:-0}/mapping" "$1" 2>/dev/null; }

fast() { cat "$SYS/pstat/bio_fast"; }

# becomes_fast OFFSET LENGTH SEED: once it was asked for by a read, and learnt by another.
becomes_fast() { wait_for 20 is_fast "$@"; }

is_fast()
{
	local before

	data verify "$DEV" "$@" >/dev/null
	before=$(fast)
	data verify "$DEV" "$@"
	(($(fast) > before))
}

# running_image: 64 MiB, 16 of them written, fast.
running_image()
{
	new_image "$IMG" 64m
	attach "$IMG"
	data write "$DEV" 0 16m 1
	becomes_fast 0 16m 1
	mapping direct
	# For the loads.
	dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none
}

read_and_overwrite()
{
	local before

	host "$1"
	running_image
	# Pages of the file that are older than what is written now.
	cat "$IMG" >/dev/null
	before=$(fast)
	data write "$DEV" 1m 4m 2
	(($(fast) - before >= 4))
	data write "$DEV" $((6 * 1048576 + 512)) 512 3 512
	data verify "$DEV" 1m 4m 2
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 5m 1m 1
	data verify "$DEV" $((6 * 1048576 + 512)) 512 3 512
	is "$SYS/pstate/active_reqs" 0
	before=$(stat -c %Y "$IMG")
	sleep 1.1
	data write "$DEV" 8m 4k 4
	sync "$DEV"
	(($(stat -c %Y "$IMG") > before))
	detach
	cmp "$IMG" <(dd if="$IMG" iflag=direct bs=1M status=none)
	check_image "$IMG"
	attach "$IMG"
	data verify "$DEV" 1m 4m 2
	data verify "$DEV" 8m 4k 4
}

@test "ext4: reads and overwrites go to the disk; buffered readers see that after a detach" { read_and_overwrite ext4; }

@test "xfs: reads and overwrites go to the disk; buffered readers see that after a detach" { read_and_overwrite xfs; }

# refused COMMAND...: it cannot open the image for writing.
refused()
{
	local said

	said=$("$@" 2>&1) && fail "succeeded: $*: $said"
	[[ $said == *"ext file busy"* || ${1##*/} == e4defrag ]] || fail "$*: $said"
}

# Each of those that want the file open for writing, beside a load.
writers_are_refused()
{
	host "$1"
	running_image
	load_begin 5 250
	refused bash -c ": >>'$IMG'"
	refused dd if=/dev/zero of="$IMG" bs=4k count=1 conv=notrunc
	refused truncate -s 1g "$IMG"
	refused fallocate -l 1g "$IMG"
	refused fallocate -p -o 1m -l 4k "$IMG"
	# The program looks for holes before.
	# shellcheck disable=SC2016 # perl's
	[[ ! -e /proc/swaps ]] || refused perl -e 'syscall(167, $ARGV[0], 0); print "$!\n"; exit 1' "$IMG"
	[[ $1 != ext4 ]] || ! command -v e4defrag >/dev/null || refused e4defrag "$IMG"
	[[ $1 != xfs ]] || refused xfs_io -c "swapext $IMG" "$IMG"
	mapping direct
	load_over
	detach
	check_image "$IMG"
	attach "$IMG"
	same_as_reference
	# Not when it is not used.
	openable
	mapping "switched off by ptune/fast"
	: >>"$IMG"
	same_as_reference
}

@test "ext4: nobody else writes to, cuts, punches, defragments or swaps to a top" { writers_are_refused ext4; }

@test "xfs: nobody else writes to, cuts, punches, exchanges or swaps to a top" { writers_are_refused xfs; }

@test "xfs: a clone of a running top waits until its blocks are not used directly, and keeps its data" {
	local hash

	host xfs
	running_image
	load_begin 6 300
	cp --reflink=always "$IMG" "$T/small/clone"
	hash=$(hash_of "$T/small/clone")
	cp --reflink=always "$IMG" "$T/small/clone2"
	load_over
	[[ $(hash_of "$T/small/clone") == "$hash" ]]
	detach
	attach "$IMG"
	same_as_reference
}

@test "xfs: blocks that become shared by deduplication are not written in place" {
	local place

	host xfs
	running_image
	data write "$DEV" 32m 1m 7
	becomes_fast 32m 1m 7
	sync "$DEV"
	place=$(($(entry "$IMG" 32) << 20))
	dd if="$IMG" of="$T/small/source" iflag=direct bs=1M skip=$((place >> 20)) count=1 status=none
	sync
	xfs_io -r -c "dedupe $T/small/source 0 $place 1048576" "$IMG" | tee /dev/stderr | grep -q '1 ops'
	data verify "$DEV" 32m 1m 7
	data write "$DEV" 32m 512k 8
	data verify "$DEV" 32m 512k 8
	dd if="$IMG" iflag=direct bs=1M skip=$((place >> 20)) count=1 status=none | tail -c 512k |
		cmp - <(tail -c 512k "$T/small/source")
	[[ $(head -c 512k "$T/small/source" | sha256sum) != $(dd if="$IMG" iflag=direct bs=1M skip=$((place >> 20)) \
		count=1 status=none | head -c 512k | sha256sum) ]]
}

lower_delta()
{
	host "$1"
	running_image
	new_image "$T/small/top" 64m
	expect OK "$DEV" snapshot "$T/small/top"
	data write "$DEV" 2m 1m 2
	becomes_fast 0 2m 1
	becomes_fast 2m 1m 2
	mapping direct 0
	mapping direct 1
	# Whoever wants to write to it waits a moment, not more.
	timeout 20 bash -c "exec 9<>'$IMG'; cat '$SYS/pdelta/0/mapping' >'$T/mapping'; sleep 0.1"
	fails grep -qx direct "$T/mapping"
	data verify "$DEV" 0 2m 1
	becomes_fast 0 2m 1
	wait_for 20 mapping direct 0
	expect OK "$DEV" merge
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 1m 2
	becomes_fast 0 2m 1
	mapping direct
}

@test "ext4: a delta below the top is read directly until somebody opens it for writing, and then again" { lower_delta ext4; }

@test "xfs: a delta below the top is read directly until somebody opens it for writing, and then again" { lower_delta xfs; }

@test "ext4: chattr +j ends it" {
	host ext4
	umount "$T/small"
	# Or it has no effect.
	mount -o nodelalloc "$SMALL" "$T/small"
	running_image
	chattr +j "$IMG"
	data write "$DEV" 0 1m 2
	data verify "$DEV" 0 1m 2
	data verify "$DEV" 1m 1m 1
	fails mapping direct
	data write "$DEV" 0 64k 3
	data verify "$DEV" 0 64k 3
	sync "$DEV"
	# Asked for again later.
	wait_for 20 asked_again "the filesystem journals data"
	chattr -j "$IMG"
	becomes_fast 1m 1m 1
	data verify "$DEV" 0 64k 3
}

asked_again()
{
	data verify "$DEV" 1m 1m 1
	mapping "$1"
}

@test "ext4: chattr +j is noticed by a flush where it has no effect yet" {
	host ext4
	running_image
	chattr +j "$IMG"
	data write "$DEV" 0 1m 2
	sync "$DEV"
	fails mapping direct
	data verify "$DEV" 0 1m 2
}

@test "ext4 with verity, and what else has no places" {
	[[ -e /sys/fs/ext4/features/verity ]] || skip "this kernel has no verity"
	mkfs.ext4 -q -F -b 4096 -O verity "$(scratch_disk verity 100m)" 2>/dev/null || skip "mkfs.ext4 knows no verity"
	losetup -d "$(losetup -nO NAME -j "$BATS_FILE_TMPDIR/verity.disk")"
	mkdir "$T/verity"
	mount -o loop "$BATS_FILE_TMPDIR/verity.disk" "$T/verity"
	new_image "$T/verity/a" 16m
	attach "$T/verity/a"
	data write "$DEV" 0 1m 1
	data verify "$DEV" 0 1m 1
	wait_for 10 mapping "the filesystem has verity"
	detach
	umount "$T/verity"
}

frozen_host()
{
	host "$1"
	running_image
	fsfreeze -f "$T/small"
	FROZEN=$T/small
	data write "$DEV" 0 4k 2 3>&- &
	wait_for 10 is "$SYS/pstate/active_reqs" 1
	data verify "$DEV" 1m 1m 1
	sleep 1
	is "$SYS/pstate/active_reqs" 1
	fsfreeze -u "$T/small"
	FROZEN=
	wait $!
	data verify "$DEV" 0 4k 2
	becomes_fast 0 4k 2
}

@test "ext4: a frozen host lets nothing be written until it thaws" { frozen_host ext4; }

@test "xfs: a frozen host lets nothing be written until it thaws" { frozen_host xfs; }

# Holes in clusters that are in use, beside reads and writes of the rest of them.
holes()
{
	local i

	host "$1"
	running_image
	background bash -c "while '$DATA' verify '$DEV' 7864320 1m 1 && '$DATA' write '$DEV' 7864320 1m 1; do :; done"
	for ((i = 0; i < 8; i++)); do
		blkdiscard -o $((i << 20)) -l 8k "$DEV"
		blkdiscard -z -o $(((i << 20) + 65536)) -l 4608 "$DEV"
	done
	kill -0 "${HELPERS[-1]}"
	let_go
	for ((i = 0; i < 8; i++)); do
		data verify "$DEV" $((i << 20)) 8k 0
		data verify "$DEV" $(((i << 20) + 8192)) 56k 1
		data verify "$DEV" $(((i << 20) + 65536)) 4608 0
		data verify "$DEV" $(((i << 20) + 65536 + 4608)) $((1048576 - 65536 - 4608)) 1
	done
	# What was punched has another place by now, or none; that of the rest is learnt again.
	data write "$DEV" 0 8k 5
	data write "$DEV" 0 8k 6
	data verify "$DEV" 0 8k 6
	becomes_fast 512k 128k 1
}

@test "ext4: holes are punched into clusters that are read and written directly" { holes ext4; }

@test "xfs: holes are punched into clusters that are read and written directly" { holes xfs; }

@test "a raw image, and one on blocks of 1 KiB" {
	truncate -s 32m "$T/a.raw"
	attach "$T/a.raw"
	data write "$DEV" 0 8m 1
	becomes_fast 0 8m 1
	mapping direct
	detach
	small_host ext4 200m
	umount "$T/small"
	mkfs.ext4 -q -F -b 1024 "$SMALL"
	mount "$SMALL" "$T/small"
	new_image "$T/small/a" 64m
	attach "$T/small/a"
	data write "$DEV" 0 8m 1
	becomes_fast 0 4k 1
	data write "$DEV" 0 8m 2
	data verify "$DEV" 0 8m 2
}

partition_and_nested()
{
	local outer

	SMALL=$(scratch_disk part 300m -P)
	echo start=4096 | sfdisk -q "$SMALL"
	wait_for 10 test -b "${SMALL}p1"
	make_fs ext4 "${SMALL}p1" "$T/small"
	IMG=$T/small/image
	running_image
	data write "$DEV" 4m 1m 2
	data verify "$DEV" 4m 1m 2
	outer=$DEV
	make_fs ext4 "$DEV" "$T/inner"
	IMG=$T/inner/image
	running_image
	data write "$DEV" 4m 1m 2
	data verify "$DEV" 4m 1m 2
	detach
	cmp "$IMG" <(dd if="$IMG" iflag=direct bs=1M status=none)
	umount "$T/inner"
	detach "$outer"
}

@test "a host on a partition, and one on another ploop device" { partition_and_nested; }

# How many clusters the index on the disk has.
indexed()
{
	dd if="$IMG" of="$T/copy" bs=1M iflag=direct status=none
	data map "$T/copy" | awk -F: '{ n += $3 } END { print n + 0 }'
}

# through FILE: a write that is durable when it ends, without a flush where that can be: prints how many went to the disk.
through()
{
	local before

	before=$(fast)
	dd if=/dev/urandom of="$1" bs=4k count=1 conv=notrunc oflag=direct,dsync status=none
	echo $(($(fast) - before))
}

was_through() { (($(through "$1"))); }

write_through()
{
	local before fua

	IMG=$T/a
	new_image "$IMG" 64m
	attach "$IMG"
	mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 "$DEV"
	mkdir "$T/inner"
	mount -o noinit_itable,commit=300 "$DEV" "$T/inner"
	dd if=/dev/urandom of="$T/inner/f" bs=1M count=1 oflag=direct conv=fsync status=none
	fua=$(cat "$SYS/pstat/bio_fua_in")
	wait_for 20 was_through "$T/inner/f"
	(($(cat "$SYS/pstat/bio_fua_in") > fua))
	# New clusters, of which the index on the disk knows nothing.
	before=$(indexed)
	dd if=/dev/urandom of="$T/inner/g" bs=1M count=8 oflag=direct status=none
	(($(indexed) == before))
	through "$T/inner/f" >/dev/null
	(($(indexed) > before))
	umount "$T/inner"
}

@test "a write with FUA goes to the disk when what leads to it is durable, and makes it so otherwise" { write_through; }

# thin_pool SIZE: on the data device, which is so large.
thin_pool()
{
	dmsetup suspend fastpool 2>/dev/null || true
	dmsetup reload fastdata --table "0 $(($1 / 512)) linear $SMALL 16384"
	dmsetup resume fastdata
	dmsetup reload fastpool --table \
		"0 $(($1 / 512)) thin-pool /dev/mapper/fastmeta /dev/mapper/fastdata 128 0 2 skip_block_zeroing error_if_no_space"
	dmsetup resume fastpool
}

thin_down()
{
	! mountpoint -q "$T/thin" || umount "$T/thin"
	dmsetup remove --retry fastthin fastpool fastdata fastmeta
}

has_parked() { (($(cat "$SYS/pstat/bio_parked"))); }

full_thin_disk()
{
	local name

	modprobe -q dm-thin-pool || skip "this kernel has no dm-thin"
	SMALL=$(scratch_disk thin 300m)
	dd if=/dev/zero of="$SMALL" bs=1M count=8 status=none
	dmsetup create fastmeta --table "0 16384 linear $SMALL 0"
	for name in fastdata fastpool; do
		dmsetup create "$name" --notable
	done
	thin_pool $((80 << 20))
	dmsetup message fastpool 0 "create_thin 0"
	dmsetup create fastthin --table "0 409600 thin /dev/mapper/fastpool 0"
	make_fs ext4 /dev/mapper/fastthin "$T/thin"
	mount -o remount,commit=300 "$T/thin"
	IMG=$T/thin/image
	new_image "$IMG" 64m
	attach "$IMG"
	data write "$DEV" 0 48m 1
	sync "$DEV"
	becomes_fast 0 48m 1
	# From now on an overwrite needs new space below.
	dmsetup suspend fastthin
	dmsetup message fastpool 0 "create_snap 1 0"
	dmsetup resume fastthin
	background "$DATA" write "$DEV" 0 48m 2
	wait_for 30 has_parked
	thin_pool $((200 << 20))
	wait "${HELPERS[-1]}"
	unset 'HELPERS[-1]'
	data verify "$DEV" 0 48m 2
	detach
	thin_down
}

@test "a thin disk that is full: writes wait until it is larger" { full_thin_disk; }
